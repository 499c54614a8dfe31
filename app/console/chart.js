/** History and fan of one series, drawn by uPlot. */

import uPlot from "./uPlot.esm.js";
import { formatNumber, formatTick } from "./format.js";
import { color } from "./theme.js";

/**
 * @typedef {object} ChartData
 * @property {(number|null)[]} history values before the origin
 * @property {(number|null)[]} actual values after it, where they are known
 * @property {string[]|null} timestamps of history, and of what follows; null for plain steps
 * @property {Record<string, number[]>|null} quantiles of the forecast by level
 * @property {number} shown how many of the last values of history to show
 */

const HEIGHT = 360;

/** A chart in `root`, with a line of text in `readout` that tells the values under the pointer. */
export class FanChart {
  /**
   * @param {HTMLElement} root
   * @param {HTMLElement} readout
   */
  constructor(root, readout) {
    this.root = root;
    this.readout = readout;
    /** @type {uPlot|null} */
    this.plot = null;
    /** @type {ChartData|null} */
    this.data = null;
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(root);
  }

  size() {
    return { width: Math.max(240, this.root.clientWidth), height: this.root.clientWidth < 480 ? 280 : HEIGHT };
  }

  /** @param {ChartData} data */
  show(data) {
    this.data = data;
    this.redraw();
  }

  redraw() {
    if (!this.data || !this.root.clientWidth) return;
    this.plot?.destroy();
    const columns = toColumns(this.data);
    this.plot = new uPlot(options(this.size(), columns, this.readout), columns.values, this.root);
  }
}

/** @param {ChartData} data */
function toColumns(data) {
  const first = Math.max(0, data.history.length - data.shown);
  const history = data.history.slice(first);
  const levels = Object.keys(data.quantiles ?? {}).sort((a, b) => Number(a) - Number(b));
  const ahead = Math.max(data.actual.length, levels.length ? data.quantiles[levels[0]].length : 0);
  const length = history.length + ahead;
  const stamps = data.timestamps?.slice(first, first + length);
  const labels = Array.from({ length }, (_, index) => stamps?.[index] ?? `step ${first + index + 1}`);
  const hasStamps = stamps?.length === length;
  const x = labels.map((label, index) => (hasStamps ? Date.parse(toUtc(label)) / 1000 : first + index + 1));
  const pad = (values, before) => Array.from({ length }, (_, index) => values[index - before] ?? null);
  const rows = [
    { kind: "history", label: "history", values: pad(history, 0) },
    { kind: "missing", label: "missing", values: missingMarks(history, length) },
    { kind: "actual", label: "actual", values: joined(pad(data.actual, history.length), history) },
    ...levels.map((level) => ({
      kind: level === "0.5" ? "median" : "bound",
      label: level === "0.5" ? "median" : `${Number((Number(level) * 100).toFixed(2))} %`,
      values: joined(pad(data.quantiles[level], history.length), history),
    })),
  ];
  const values = /** @type {uPlot.AlignedData} */ ([x, ...rows.map((row) => row.values)]);
  return { rows, labels, hasStamps, origin: history.length, values };
}

/** @param {string} stamp */
function toUtc(stamp) {
  const wall = stamp.replace(/(Z|[+-]\d\d:\d\d)$/, "");
  return wall.includes("T") ? `${wall}Z` : `${wall}T00:00:00Z`;
}

/**
 * Begin a line at the last value of history, so that the fan opens where the data end.
 * @param {(number|null)[]} values
 * @param {(number|null)[]} history
 */
function joined(values, history) {
  const last = history.length - 1;
  if (last >= 0 && values.some((value) => value !== null)) values[last] = history[last];
  return values;
}

/**
 * Marks between the neighbours of missing values, so that gaps can be seen.
 * @param {(number|null)[]} history
 * @param {number} length
 */
function missingMarks(history, length) {
  const marks = new Array(length).fill(null);
  let before = null;
  let after = 0;
  for (let index = 0; index < history.length; index += 1) {
    if (history[index] !== null) {
      before = index;
      continue;
    }
    while (after < history.length && (after <= index || history[after] === null)) after += 1;
    if (before === null || after === history.length) continue;
    const share = (index - before) / (after - before);
    marks[index] = history[before] + share * (history[after] - history[before]);
  }
  return marks;
}

/**
 * @param {{width: number, height: number}} size
 * @param {ReturnType<typeof toColumns>} columns
 * @param {HTMLElement} readout
 */
function options(size, columns, readout) {
  const axis = {
    stroke: color("quiet"),
    grid: { stroke: color("grid"), width: 1 },
    ticks: { stroke: color("grid"), width: 1 },
    font: "12px system-ui, sans-serif",
  };
  return {
    ...size,
    legend: { show: false },
    cursor: { points: { size: 7 }, drag: { x: true, y: false } },
    tzDate: (stamp) => uPlot.tzDate(new Date(stamp * 1000), "Etc/UTC"),
    scales: { x: { time: columns.hasStamps } },
    axes: [axis, { ...axis, size: 62, values: (_, ticks) => ticks.map(formatTick) }],
    series: [{}, ...columns.rows.map(lineOf)],
    bands: bandsOf(columns.rows),
    hooks: { setCursor: [(plot) => tell(plot, columns, readout)] },
  };
}

/** @param {{kind: string, label: string}} row */
function lineOf(row) {
  const points = { show: false };
  if (row.kind === "history") return { stroke: color("history"), width: 1.75, points };
  if (row.kind === "actual") return { stroke: color("history"), width: 1.75, dash: [2, 3], points };
  if (row.kind === "median") return { stroke: color("accent"), width: 2.25, points };
  if (row.kind === "bound") return { stroke: "transparent", width: 0, points };
  const mark = { show: true, size: 7, width: 1.5, stroke: color("missing"), fill: color("surface") };
  return { paths: () => null, points: mark, stroke: color("missing") };
}

/** @param {{kind: string}[]} rows */
function bandsOf(rows) {
  const bounds = rows.flatMap((row, index) => (row.kind === "bound" ? [index + 1] : []));
  const pairs = Math.floor(bounds.length / 2);
  return Array.from({ length: pairs }, (_, outer) => ({
    series: /** @type {[number, number]} */ ([bounds[bounds.length - 1 - outer], bounds[outer]]),
    fill: color(outer === 0 ? "band-outer" : "band-inner"),
  }));
}

/**
 * @param {uPlot} plot
 * @param {ReturnType<typeof toColumns>} columns
 * @param {HTMLElement} readout
 */
function tell(plot, columns, readout) {
  const index = plot.cursor.idx;
  if (index === null || index === undefined) {
    readout.textContent = "Point at the chart to read values; drag to zoom, double-click to see all.";
    return;
  }
  const isAhead = index >= columns.origin;
  const parts = columns.rows
    .filter((row) => row.kind !== "missing" && (row.kind === "history") === !isAhead)
    .filter((row) => row.values[index] !== null)
    .map((row) => `${row.kind === "history" ? "value" : row.label} ${formatNumber(row.values[index])}`);
  readout.textContent = `${columns.labels[index]}: ${parts.join(" · ") || "missing"}`;
}
