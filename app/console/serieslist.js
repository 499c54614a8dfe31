/** Choosing one of several series, with a search. */

import { byId, make } from "./dom.js";
import { formatCount, plural } from "./format.js";

const MOST_SHOWN = 200;

/** @typedef {import("./requests.js").Series} Series */

export class SeriesList {
  /** @param {(series: Series) => void} onChosen */
  constructor(onChosen) {
    this.onChosen = onChosen;
    /** @type {Series[]} */
    this.series = [];
    this.chosen = 0;
    byId("series-search").addEventListener("input", () => this.fill());
    byId("series-list").addEventListener("change", () => this.choose());
  }

  /** @param {Series[]} series */
  show(series) {
    this.series = series;
    this.chosen = 0;
    byId("series-box").hidden = series.length < 2;
    byId("series-search").value = "";
    this.fill();
    this.onChosen(series[0]);
  }

  fill() {
    const words = byId("series-search").value.trim().toLowerCase();
    const list = byId("series-list");
    const matching = this.series
      .map((one, index) => ({ index, name: one.item_id ?? `series ${index + 1}`, one }))
      .filter(({ name }) => name.toLowerCase().includes(words));
    list.replaceChildren(
      ...matching.slice(0, MOST_SHOWN).map(({ index, name, one }) => make("option", { value: index }, one.num_missing ? `${name} (${one.num_missing} missing)` : name)),
    );
    list.value = String(this.chosen);
    const more = matching.length > MOST_SHOWN ? `, the first ${MOST_SHOWN} shown` : "";
    byId("series-count").textContent = `${plural(matching.length, "series", "series")} of ${formatCount(this.series.length)}${more}`;
  }

  choose() {
    this.chosen = Number(byId("series-list").value);
    this.onChosen(this.series[this.chosen]);
  }
}
