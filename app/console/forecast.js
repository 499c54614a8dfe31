/** The forecast of the chosen series: chart, notes, table, downloads. */

import { forecast, hasKey } from "./api.js";
import { FanChart } from "./chart.js";
import { byId, make } from "./dom.js";
import { forecastsAsCsv, save } from "./downloads.js";
import { formatNumber, plural } from "./format.js";
import { table } from "./models.js";
import { notesOn } from "./notes.js";
import { asCurl, asPython, buildRequest, usesStamps } from "./requests.js";

/** @typedef {{found: import("./data.js").FoundFile, series: import("./requests.js").Series, choice: import("./requests.js").Choice}} Work */

/** How many values of history are shown at first. */
export function shownValues(/** @type {Work} */ { series, choice }) {
  const isWhole = byId("whole-history").checked;
  return isWhole ? series.target.length : Math.max(5 * choice.horizon, 4 * (choice.model.season ?? 1), 48);
}

export class ForecastView {
  constructor() {
    this.chart = new FanChart(byId("forecast-chart"), byId("forecast-readout"));
    /** @type {Work|null} */
    this.work = null;
    /** @type {AbortController|null} */
    this.running = null;
    byId("download").addEventListener("click", () => this.download());
    byId("copy-curl").addEventListener("click", () => this.copy(asCurl, "curl"));
    byId("copy-python").addEventListener("click", () => this.copy(asPython, "Python"));
  }

  /** @param {Work} work */
  async update(work) {
    this.work = work;
    this.running?.abort();
    const running = new AbortController();
    this.running = running;
    byId("forecast-status").textContent = "Forecasting …";
    byId("forecast-error").hidden = true;
    byId("notes").replaceChildren(...notesOn(work.series, work.choice, work.found).map((note) => make("li", {}, note)));
    try {
      const answer = await forecast(work.choice.model.model_name, buildRequest([work.series], work.choice), running.signal);
      if (!running.signal.aborted) this.show(work, answer);
    } catch (error) {
      if (running.signal.aborted) return;
      byId("forecast-status").textContent = "";
      byId("forecast-error").textContent = /** @type {Error} */ (error).message;
      byId("forecast-error").hidden = false;
      this.showHistory(work);
    }
  }

  /**
   * Show a series without a forecast, so that nobody takes that of another one for its own.
   * @param {Work} work
   */
  showHistory(work) {
    const { series, choice } = work;
    const stamps = usesStamps(choice) ? series.timestamps : null;
    this.chart.show({ history: series.target, actual: [], timestamps: stamps, quantiles: null, shown: shownValues(work) });
    byId("forecast-chart").setAttribute("aria-label", `Chart: ${series.item_id ?? "your series"}, ${plural(series.target.length, "value")}, without a forecast.`);
    byId("forecast-table").replaceChildren();
  }

  /**
   * @param {Work} work
   * @param {any} answer
   */
  show(work, answer) {
    const { series, choice } = work;
    const one = answer.forecasts[0];
    const stamps = usesStamps(choice) && series.timestamps && one.timestamps ? [...series.timestamps, ...one.timestamps] : null;
    this.chart.show({ history: series.target, actual: [], timestamps: stamps, quantiles: one.quantiles, shown: shownValues(work) });
    const name = series.item_id ?? "your series";
    const low = `${Math.round(choice.interval * 100)} %`;
    const median = one.quantiles["0.5"];
    byId("forecast-status").textContent =
      `${name}: ${plural(answer.horizon, "step")} ahead by ${answer.model_name} version ${answer.model_version}, with the ${low} interval.`;
    byId("forecast-chart").setAttribute("aria-label", `Chart: ${name}, ${plural(series.target.length, "value")}, then a forecast from ${formatNumber(median[0])} to ${formatNumber(median.at(-1))}. The table below has all values.`);
    const levels = answer.quantile_levels.map(String);
    const rows = median.map((_, step) => [one.timestamps?.[step] ?? `step ${step + 1}`, ...levels.map((level) => formatNumber(one.quantiles[level][step]))]);
    byId("forecast-table").replaceChildren(table(`Forecast of ${name}, by quantile level`, ["Time", ...levels], rows));
    byId("forecast-result").dataset.done = String(Number(byId("forecast-result").dataset.done ?? 0) + 1);
  }

  async download() {
    if (!this.work) return;
    const { found, choice } = this.work;
    try {
      const content = await forecastsAsCsv(found.series, choice, (share) => this.tell(`Forecasting all series: ${Math.round(share * 100)} %`));
      save(`forecasts-${choice.model.model_name}.csv`, content);
      this.tell(`Saved forecasts of ${plural(found.series.length, "series", "series")}.`);
    } catch (error) {
      this.tell(`Nothing saved: ${/** @type {Error} */ (error).message}`);
    }
  }

  /**
   * @param {(url: string, request: object, needsKey: boolean) => string} write
   * @param {string} name
   */
  async copy(write, name) {
    if (!this.work) return;
    const { series, choice } = this.work;
    const url = new URL(`v1/models/${encodeURIComponent(choice.model.model_name)}/forecast`, document.baseURI).href;
    const text = write(url, buildRequest([series], choice), hasKey());
    byId("copied").textContent = text;
    byId("copied-box").hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      this.tell(`Copied as ${name}.`);
    } catch {
      byId("copied-box").open = true;
      this.tell("The browser does not let this page copy: take the text below.");
    }
  }

  /** @param {string} text */
  tell(text) {
    byId("action-status").textContent = text;
  }
}
