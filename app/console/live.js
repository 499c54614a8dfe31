/** The state of the service: ready or not in the header, and its pulse on the page of models. */

import { call } from "./api.js";
import uPlot from "./uPlot.esm.js";
import { byId } from "./dom.js";
import { formatDuration, formatNumber } from "./format.js";
import { liveBetween, parseMetrics } from "./prometheus.js";
import { color } from "./theme.js";

const PULSE_MS = 2000;
const READY_MS = 10_000;
const PATIENCE_MS = 10_000;
const SHOWN_S = 120;
const KEPT = (SHOWN_S * 1000) / PULSE_MS + 1;

/** Watch `/readyz`, for ever. */
export function watchReadiness() {
  const tell = (/** @type {string} */ text, /** @type {boolean} */ isReady) => {
    const state = byId("state");
    // Screen readers say a status again whenever it is written.
    if (state.textContent !== text) state.textContent = text;
    state.dataset.state = isReady ? "ready" : "not-ready";
  };
  const show = async () => {
    try {
      const answer = await (await fetch("readyz", { signal: AbortSignal.timeout(PATIENCE_MS) })).json();
      tell(answer.is_ready ? "Ready" : `Not ready: ${answer.reason}`, answer.is_ready);
    } catch {
      tell("No answer", false);
    }
  };
  show();
  setInterval(() => document.hidden || show(), READY_MS);
}

/** Reads `/metrics` while it is started. */
export class Pulse {
  constructor() {
    /** @type {{at: number, samples: import("./prometheus.js").Sample[]}|null} */
    this.last = null;
    /** @type {[number[], number[]]} */
    this.history = [[], []];
    this.timer = 0;
    this.isAsking = false;
    /** @type {uPlot|null} */
    this.plot = null;
  }

  start() {
    this.stop();
    this.beat();
    this.timer = window.setInterval(() => document.hidden || this.beat(), PULSE_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.last = null;
  }

  async beat() {
    if (this.isAsking) return;
    this.isAsking = true;
    try {
      const answer = await call("metrics", { signal: AbortSignal.timeout(PATIENCE_MS) });
      const samples = parseMetrics(await answer.text());
      const at = performance.now();
      if (this.last) this.show(liveBetween(this.last.samples, samples, (at - this.last.at) / 1000));
      this.last = { at, samples };
      byId("live-error").hidden = true;
    } catch (error) {
      byId("live-error").textContent = `No live figures: ${/** @type {Error} */ (error).message}`;
      byId("live-error").hidden = false;
      if (/** @type {any} */ (error).status === 401) this.stop();
    } finally {
      this.isAsking = false;
    }
  }

  /** @param {import("./prometheus.js").Live} live */
  show(live) {
    byId("live-requests").textContent = formatNumber(Number(live.requestsPerSecond.toFixed(1)));
    byId("live-latency").textContent = formatDuration(live.latency);
    byId("live-batch").textContent = formatNumber(Number(live.batchRows.toFixed(1)));
    byId("live-waiting").textContent = formatNumber(live.waiting);
    const [times, rates] = this.history;
    times.push(Date.now() / 1000);
    rates.push(live.requestsPerSecond);
    if (times.length > KEPT) this.history = [times.slice(1), rates.slice(1)];
    this.redraw();
  }

  redraw() {
    const root = byId("live-chart");
    if (!root.clientWidth || this.history[0].length < 2) return;
    const axis = { stroke: color("quiet"), grid: { stroke: color("grid"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
    this.plot?.destroy();
    this.plot = new uPlot(
      {
        width: root.clientWidth,
        height: 130,
        legend: { show: false },
        cursor: { show: false },
        scales: { x: { range: (_, __, last) => [last - SHOWN_S, last] }, y: { range: (_, __, high) => [0, Math.max(1, 1.15 * high)] } },
        axes: [{ ...axis, splits: everyHalfMinute, values: secondsAgo }, { ...axis, size: 40 }],
        series: [{}, { stroke: color("accent"), width: 2, fill: color("band-outer"), points: { show: false } }],
      },
      this.history,
      root,
    );
  }
}

/**
 * @param {uPlot} plot
 * @param {number[]} ticks
 */
function secondsAgo(plot, ticks) {
  const last = plot.data[0].at(-1) ?? 0;
  return ticks.map((tick) => (Math.round(last - tick) ? `${Math.round(last - tick)} s ago` : "now"));
}

/** @param {uPlot} plot */
function everyHalfMinute(plot) {
  const last = plot.data[0].at(-1) ?? 0;
  return [120, 90, 60, 30, 0].map((seconds) => last - seconds);
}
