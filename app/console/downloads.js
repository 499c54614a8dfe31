/** Forecasts as a CSV file, and text for the clipboard. */

import { forecast } from "./api.js";
import { buildRequest } from "./requests.js";

const SERIES_A_REQUEST = 200;

/**
 * Forecast all series and return a CSV file; series without a forecast have their reason instead.
 * @param {import("./requests.js").Series[]} series
 * @param {import("./requests.js").Choice} choice
 * @param {(share: number) => void} onProgress
 */
export async function forecastsAsCsv(series, choice, onProgress) {
  /** @type {string[]} */
  const lines = [];
  for (let first = 0; first < series.length; first += SERIES_A_REQUEST) {
    const part = series.slice(first, first + SERIES_A_REQUEST);
    const answer = await forecast(choice.model.model_name, buildRequest(part, choice));
    const levels = answer.quantile_levels.map(String);
    if (!lines.length) lines.push(["item_id", "timestamp", ...levels, "error"].join(","));
    for (const one of answer.forecasts) lines.push(...rowsOf(one, levels));
    onProgress(Math.min(1, (first + part.length) / series.length));
  }
  return `${lines.join("\n")}\n`;
}

/**
 * @param {any} one forecast of one series
 * @param {string[]} levels
 */
function rowsOf(one, levels) {
  if (one.error) return [[one.item_id ?? "", "", ...levels.map(() => ""), one.error.detail].map(quote).join(",")];
  return one.quantiles[levels[0]].map((_, step) =>
    [one.item_id ?? "", one.timestamps?.[step] ?? step + 1, ...levels.map((level) => one.quantiles[level][step])].map(quote).concat("").join(","),
  );
}

/** @param {string|number} cell */
function quote(cell) {
  const text = String(cell);
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/**
 * @param {string} name
 * @param {string} content
 */
export function save(name, content) {
  const url = URL.createObjectURL(new Blob([content], { type: "text/csv" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}
