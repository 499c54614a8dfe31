/** Forecasts as a CSV file, and text for the clipboard. */

import { forecast } from "./api.js";
import { buildRequest, levelsOf } from "./requests.js";

const SERIES_A_REQUEST = 200;

/**
 * Forecast all series and return a CSV file; series without a forecast have their reason instead.
 * @param {import("./requests.js").Series[]} series
 * @param {import("./requests.js").Choice} choice
 * @param {(share: number) => void} onProgress
 */
export async function forecastsAsCsv(series, choice, onProgress) {
  const levels = levelsOf(choice.interval).map(String);
  const lines = [["item_id", "timestamp", ...levels, "error"].join(",")];
  let refusal = null;
  let isAnswered = false;
  for (let first = 0; first < series.length; first += SERIES_A_REQUEST) {
    const part = series.slice(first, first + SERIES_A_REQUEST);
    try {
      const answer = await forecast(choice.model.model_name, buildRequest(part, choice));
      for (const one of answer.forecasts) lines.push(...rowsOf(one, levels));
      isAnswered = true;
    } catch (error) {
      refusal = error;
      for (const one of refusedSeries(part, error)) lines.push(...rowsOf(one, levels));
    }
    onProgress(Math.min(1, (first + part.length) / series.length));
  }
  if (refusal && !isAnswered) throw refusal;
  return `${lines.join("\n")}\n`;
}

/**
 * The series of a request of which none could be forecast, each with its reason.
 * @param {import("./requests.js").Series[]} part
 * @param {any} error thrown on, where it is about something else
 */
function refusedSeries(part, error) {
  const errors = error.errors ?? [];
  if (!errors.length || !errors.every(({ pointer }) => pointer.startsWith("/series/"))) throw error;
  const reasons = new Map(errors.map(({ pointer, detail }) => [Number(pointer.split("/")[2]), detail]));
  return part.map(({ item_id }, index) => ({ item_id, error: { detail: reasons.get(index) ?? error.message } }));
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
