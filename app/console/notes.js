/** What a user should know about the quality of a series before trusting its forecast. */

import { frequencyInWords, plural } from "./format.js";
import { usesStamps } from "./requests.js";

/**
 * @param {import("./requests.js").Series} series
 * @param {import("./requests.js").Choice} choice
 * @param {import("./data.js").FoundFile} found
 * @returns {string[]}
 */
export function notesOn(series, choice, found) {
  const notes = [];
  const { model } = choice;
  const length = series.target.length;
  const season = model.season ?? 1;
  const others = series.num_missing - series.num_gaps;
  if (series.num_gaps) notes.push(`${plural(series.num_gaps, "step")} of this series ${series.num_gaps === 1 ? "has" : "have"} no row in the file: shown as missing.`);
  if (others) notes.push(`${plural(others, "value")} ${others === 1 ? "is" : "are"} missing. The model reads around ${others === 1 ? "it" : "them"}.`);
  if (season > 1 && length < 2 * season) notes.push(`Short history: ${plural(length, "value")} for a season of ${season}. With less than two seasons, the season is mostly a guess.`);
  if (model.context_length && length > model.context_length) notes.push(`The model reads the newest ${model.context_length} of ${plural(length, "value")}.`);
  if (found.freq && !usesStamps(choice)) notes.push(`The data have one value ${frequencyInWords(found.freq)}, the model was trained on one ${frequencyInWords(model.freq)}: dates are left out and rows count as steps.`);
  if (found.num_repeated) notes.push(`${plural(found.num_repeated, "row")} of the file ${found.num_repeated === 1 ? "repeats another one and counts" : "repeat others and count"} once.`);
  if (found.without_values.length) notes.push(`Left out, as no row has a number: ${found.without_values.slice(0, 5).join(", ")}${found.without_values.length > 5 ? " …" : ""}.`);
  return notes;
}
