/** The models: card, accuracy, versions. */

import { callJson } from "./api.js";
import { byId, make } from "./dom.js";
import { formatCount, formatNumber, formatShare, frequencyInWords } from "./format.js";

/** @returns {Promise<import("./requests.js").Model[]>} */
export async function listModels() {
  return (await callJson("v1/models")).models;
}

/** Fill the page of models. */
export async function showModels() {
  const root = byId("model-cards");
  try {
    const models = await listModels();
    const cards = await Promise.all(models.map((model) => callJson(`v1/models/${encodeURIComponent(model.model_name)}`)));
    root.replaceChildren(...(cards.length ? cards.map(toCard) : [make("p", { class: "empty" }, "No model is served.")]));
  } catch (error) {
    root.replaceChildren(make("p", { class: "message error", role: "alert" }, /** @type {Error} */ (error).message));
  }
}

/** @param {any} model */
function toCard(model) {
  const title = make("h3", {}, model.model_name, " ", make("span", { class: "tag" }, `version ${model.model_version}`));
  const card = model.card;
  if (!card) return make("article", { class: "card" }, title, withoutCard(model), versions(model));
  const isForecaster = card.task === "forecast";
  return make(
    "article",
    { class: "card" },
    title,
    make("p", {}, card.description || "No description."),
    facts(isForecaster ? factsOfForecaster(card) : factsOfSequences(card)),
    isForecaster ? accuracy(card.accuracy) : taskAccuracy(card.accuracy),
    versions(model),
  );
}

const TASKS = { classify: "Finds the class of a sequence", regress: "Finds numbers that belong to a sequence", tag: "Finds the class of each step" };

/**
 * @param {any} card
 * @returns {[string, string][]}
 */
function factsOfSequences(card) {
  return [
    ["Task", TASKS[card.task]],
    ["Features", card.features.join(", ")],
    card.task === "regress" ? ["Targets", card.targets.join(", ")] : ["Classes", card.classes.join(", ")],
    ["Reads", `up to ${formatCount(card.max_length)} steps`],
    ["Pooling", card.pooling ?? "none"],
    ["Network", `${card.cell.toUpperCase()}, ${card.num_layers} × ${card.hidden_size}${card.is_bidirectional ? ", both directions" : ""}`],
    ["Trained on", `${formatCount(card.training.num_series)} sequences, ${formatCount(card.training.num_observations)} values`],
  ];
}

/**
 * @param {any} card
 * @returns {[string, string][]}
 */
function factsOfForecaster(card) {
  return [
    ["Data", card.freq ? `one value ${frequencyInWords(card.freq)}` : "any spacing"],
    ["Season", card.season > 1 ? `${card.season} steps` : "none"],
    ["Horizon", `up to ${card.horizon} steps`],
    ["Reads", `up to ${formatCount(card.context_length)} values`],
    ["Quantile levels", `${card.quantile_levels[0]} to ${card.quantile_levels.at(-1)}`],
    ["Network", `${card.cell.toUpperCase()}, ${card.num_layers} × ${card.hidden_size}`],
    ["Trained on", `${formatCount(card.training.num_series)} series, ${formatCount(card.training.num_observations)} values`],
    ["Covariates", [...card.past_covariates, ...card.future_covariates, ...card.static_covariates].join(", ") || "none"],
  ];
}

/** @param {any} model */
function withoutCard(model) {
  if (model.is_ready) return make("p", {}, "Takes and gives tensors, by the Open Inference Protocol; it is no forecaster.");
  return make("p", { class: "message error" }, `Not ready: ${model.reason}`);
}

/** @param {[string, string][]} rows */
function facts(rows) {
  return make("dl", { class: "facts" }, ...rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value))));
}

/** @param {any[]} rows */
function accuracy(rows) {
  if (!rows.length) return make("p", { class: "quiet" }, "No accuracy was measured for this model.");
  const head = ["Data set", "Series", "MASE", "Seasonal naive", "sMAPE", "Coverage of 80 %"];
  const body = rows.map((row) => [
    row.data_set,
    formatCount(row.num_series),
    formatNumber(Number(row.mase.toFixed(3))),
    formatNumber(Number(row.seasonal_naive_mase.toFixed(3))),
    formatNumber(Number(row.smape.toFixed(2))),
    formatShare(row.coverage_80),
  ]);
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Accuracy table" }, table("Accuracy, measured on test parts; MASE: lower is better", head, body));
}

/** @param {any[]} rows */
function taskAccuracy(rows) {
  if (!rows.length) return make("p", { class: "quiet" }, "No accuracy was measured for this model.");
  const head = ["Data set", "Sequences", "Measure", "Value", "Baseline", "Its value"];
  const number = (/** @type {number} */ value) => formatNumber(Number(value.toFixed(3)));
  const body = rows.map((row) => [row.data_set, formatCount(row.num_sequences), row.metric, number(row.value), row.baseline, number(row.baseline_value)]);
  return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Accuracy table" }, table("Accuracy, measured on test parts", head, body));
}

/** @param {any} model */
function versions(model) {
  const body = model.versions.map((version) => [version.model_version, version.is_ready ? "ready" : `not ready: ${version.reason}`]);
  return table("Versions", ["Version", "State"], body);
}

/**
 * @param {string} caption
 * @param {string[]} head
 * @param {(string|number)[][]} body
 */
export function table(caption, head, body) {
  return make(
    "table",
    {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, ...head.map((cell) => make("th", { scope: "col" }, cell)))),
    make("tbody", {}, ...body.map((row) => make("tr", {}, ...row.map((cell) => make("td", {}, cell))))),
  );
}
