/** Puts the page together: tabs, data, choices, views. */

import { BacktestView } from "./backtest.js";
import { DataInput } from "./data.js";
import { byId, debounce, fillSelect } from "./dom.js";
import { ForecastView } from "./forecast.js";
import { frequencyInWords } from "./format.js";
import { Pulse, watchReadiness } from "./live.js";
import { listModels, showModels } from "./models.js";
import { covariateNames } from "./requests.js";
import { SeriesList } from "./serieslist.js";
import { startTheme } from "./theme.js";

const TABS = ["forecast", "backtest", "models"];
const INTERVALS = [0.5, 0.8, 0.9, 0.95, 0.98];
const SETTLE_MS = 250;

/** @type {import("./requests.js").Model[]} */
let models = [];
/** @type {import("./data.js").FoundFile|null} */
let found = null;
/** @type {import("./requests.js").Series|null} */
let series = null;

const forecastView = new ForecastView();
const backtestView = new BacktestView();
const pulse = new Pulse();
const list = new SeriesList((chosen) => {
  series = chosen;
  work();
});
const data = new DataInput((read) => {
  found = read;
  chooseFittingModel();
  if (data.readFor(chosenModel())) {
    series = null; // it was one of the file before
    return;
  }
  list.show(read.series);
  if (matchMedia("(max-width: 60rem)").matches) byId(`view-${currentTab()}`).scrollIntoView();
});

function currentTab() {
  const name = location.hash.slice(1);
  return TABS.includes(name) ? name : "forecast";
}

function showTab() {
  const tab = currentTab();
  for (const name of TABS) {
    byId(`view-${name}`).hidden = name !== tab;
    byId(`link-${name}`).toggleAttribute("aria-current", name === tab);
    if (name === tab) byId(`link-${name}`).setAttribute("aria-current", "page");
  }
  byId("workbench").hidden = tab === "models";
  if (tab === "models") {
    showModels();
    pulse.start();
  } else {
    pulse.stop();
    work();
  }
}

function chooseFittingModel() {
  if (!found?.freq) return;
  const fitting = models.find(fits);
  const chosen = chosenModel();
  if (fitting && !(chosen && fits(chosen))) {
    byId("model").value = fitting.model_name;
    fitChoices();
  }
}

/**
 * Whether the data have the spacing and the columns that a model needs.
 * @param {import("./requests.js").Model} model
 */
function fits(model) {
  return model.freq === found?.freq && covariateNames(model).every((name) => found?.all_columns.includes(name));
}

function chosenModel() {
  return models.find((model) => model.model_name === byId("model").value);
}

/** Bring horizon and interval within what the chosen model takes. */
function fitChoices() {
  const model = chosenModel();
  if (!model) return;
  byId("horizon").max = String(model.horizon);
  fitHorizon();
  byId("horizon-hint").textContent = `1 to ${model.horizon} steps`;
  const widest = 1 - 2 * Math.max(model.quantile_levels[0], 1 - (model.quantile_levels.at(-1) ?? 1));
  const intervals = INTERVALS.filter((interval) => interval <= widest + 1e-6);
  fillSelect(byId("interval"), intervals.map((interval) => ({ value: String(interval), label: `${Math.round(interval * 100)} %` })), byId("interval").value || "0.8");
}

/** Replace a horizon that the chosen model cannot take by its longest one. */
function fitHorizon() {
  const model = chosenModel();
  if (model && !choice()) byId("horizon").value = String(model.horizon);
}

/** @returns {import("./requests.js").Choice|null} */
function choice() {
  const model = chosenModel();
  const horizon = Number(byId("horizon").value);
  const isWhole = Number.isInteger(horizon) && horizon >= 1 && horizon <= Number(model?.horizon);
  byId("horizon").setAttribute("aria-invalid", String(Boolean(model) && !isWhole));
  return model && isWhole ? { model, horizon, interval: Number(byId("interval").value), freq: found?.freq ?? null } : null;
}

/** Show the chosen series in the view that is open. */
function work() {
  fitHorizon();
  const chosen = choice();
  byId("empty").hidden = Boolean(series);
  byId("forecast-result").hidden = byId("backtest-body").hidden = !series;
  byId("backtest-empty").hidden = Boolean(series);
  if (!chosen || !found || !series) return;
  const view = currentTab() === "backtest" ? backtestView : forecastView;
  view.update({ found, series, choice: chosen });
}

async function loadModels() {
  try {
    // A model without a horizon makes no forecasts.
    models = (await listModels()).filter((model) => model.is_ready && model.horizon);
    const label = (/** @type {import("./requests.js").Model} */ model) => `${model.model_name} (${model.freq ? frequencyInWords(model.freq) : "any spacing"})`;
    fillSelect(byId("model"), models.map((model) => ({ value: model.model_name, label: label(model) })));
    byId("models-error").hidden = models.length > 0;
    byId("models-error").textContent = "No model that makes forecasts is ready.";
    fitChoices();
    chooseFittingModel();
    if (!data.readFor(chosenModel())) work();
  } catch (error) {
    byId("models-error").hidden = false;
    byId("models-error").textContent = /** @type {Error} */ (error).message;
  }
}

const workSoon = debounce(() => choice() && work(), SETTLE_MS);
byId("model").addEventListener("change", () => {
  fitChoices();
  if (!data.readFor(chosenModel())) work();
});
byId("horizon").addEventListener("input", workSoon);
byId("interval").addEventListener("change", work);
byId("whole-history").addEventListener("change", work);
byId("retry-models").addEventListener("click", loadModels);
window.addEventListener("hashchange", showTab);
document.querySelector(".skip")?.addEventListener("click", (event) => {
  event.preventDefault(); // the part after # of the address is the view
  byId("main").focus();
});
startTheme(() => {
  forecastView.chart.redraw();
  backtestView.chart.redraw();
  pulse.redraw();
});
watchReadiness();
showTab();
loadModels();
