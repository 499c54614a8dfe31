/** What the model would have said at earlier origins, and how wrong it would have been. */

import { forecast } from "./api.js";
import { FanChart } from "./chart.js";
import { byId } from "./dom.js";
import { formatNumber, formatShare, plural } from "./format.js";
import { coverage, mase, meanKnown, seasonalNaive, seasonalScale } from "./measures.js";
import { buildRequest, usesStamps } from "./requests.js";
import { shownValues } from "./forecast.js";

/** @typedef {import("./forecast.js").Work} Work */
/** @typedef {{stop: number, quantiles: Record<string, number[]>, mase: number, naive: number, coverage: number}} Origin */

const MOST_ORIGINS = 48;
const LEAST_HISTORY = 8;

export class BacktestView {
  constructor() {
    this.chart = new FanChart(byId("backtest-chart"), byId("backtest-readout"));
    /** @type {Work|null} */
    this.work = null;
    /** @type {Origin[]} */
    this.origins = [];
    /** @type {AbortController|null} */
    this.running = null;
    byId("origin").addEventListener("input", () => this.showOrigin());
  }

  /** @param {Work} work */
  async update(work) {
    this.work = work;
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    this.origins = [];
    const stops = stopsOf(work);
    byId("backtest-error").hidden = true;
    byId("backtest-result").hidden = true;
    if (!stops.length) {
      byId("backtest-status").textContent = `This series is too short to look back: it needs more than ${LEAST_HISTORY} values and one horizon.`;
      return;
    }
    byId("backtest-status").textContent = "Forecasting from earlier origins …";
    try {
      const answer = await forecast(work.choice.model.model_name, requestFor(work, stops), running.signal);
      if (running.signal.aborted) return;
      this.origins = stops.flatMap((stop, index) => score(work, stop, answer.forecasts[index]));
      this.showAll();
    } catch (error) {
      if (running.signal.aborted) return;
      byId("backtest-status").textContent = "";
      byId("backtest-error").textContent = /** @type {Error} */ (error).message;
      byId("backtest-error").hidden = false;
    }
  }

  showAll() {
    const { origins } = this;
    byId("backtest-result").hidden = false;
    const slider = byId("origin");
    slider.max = String(origins.length - 1);
    slider.value = slider.max;
    byId("mean-mase").textContent = formatNumber(Number(meanKnown(origins.map((o) => o.mase)).toFixed(3)));
    byId("mean-naive").textContent = formatNumber(Number(meanKnown(origins.map((o) => o.naive)).toFixed(3)));
    byId("mean-coverage").textContent = formatShare(meanKnown(origins.map((o) => o.coverage)));
    byId("backtest-status").textContent = `${plural(origins.length, "origin")}, each with what was known then.`;
    this.showOrigin();
  }

  showOrigin() {
    const origin = this.origins[Number(byId("origin").value)];
    if (!origin || !this.work) return;
    const { series, choice } = this.work;
    const stamps = usesStamps(choice) ? series.timestamps : null;
    const label = stamps ? stamps[origin.stop - 1] : `step ${origin.stop}`;
    byId("origin-label").textContent = `after ${label}`;
    byId("origin").setAttribute("aria-valuetext", `after ${label}, MASE ${formatNumber(Number(origin.mase.toFixed(2)))}`);
    byId("origin-mase").textContent = formatNumber(Number(origin.mase.toFixed(3)));
    byId("origin-coverage").textContent = formatShare(origin.coverage);
    byId("backtest-chart").setAttribute("aria-label", `Chart: forecast made after ${label}, beside what came.`);
    this.chart.show({
      history: series.target.slice(0, origin.stop),
      actual: series.target.slice(origin.stop, origin.stop + choice.horizon),
      timestamps: stamps,
      quantiles: origin.quantiles,
      shown: shownValues(this.work),
    });
  }
}

/**
 * The lengths of history to forecast from, oldest first.
 * @param {Work} work
 */
function stopsOf({ series, choice }) {
  const last = series.target.length - choice.horizon;
  const first = Math.max(LEAST_HISTORY, last - MOST_ORIGINS + 1);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, index) => first + index);
}

/**
 * @param {Work} work
 * @param {number[]} stops
 */
function requestFor({ series, choice }, stops) {
  const cut = stops.map((stop) => ({ ...series, target: series.target.slice(0, stop) }));
  return buildRequest(cut, choice);
}

/**
 * @param {Work} work
 * @param {number} stop
 * @param {any} answer
 * @returns {Origin[]}
 */
function score({ series, choice }, stop, answer) {
  if (!answer.quantiles) return [];
  const history = series.target.slice(0, stop);
  const actual = series.target.slice(stop, stop + choice.horizon);
  const season = choice.model.season ?? 1;
  const scale = seasonalScale(history, season);
  const levels = Object.keys(answer.quantiles).sort((a, b) => Number(a) - Number(b));
  return [
    {
      stop,
      quantiles: answer.quantiles,
      mase: mase(actual, answer.quantiles["0.5"], scale),
      naive: mase(actual, seasonalNaive(history, season, choice.horizon), scale),
      coverage: coverage(actual, answer.quantiles[levels[0]], answer.quantiles[levels[levels.length - 1]]),
    },
  ];
}
