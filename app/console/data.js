/** The data part of the page: paste, drop, choose or take the example; see what was understood. */

import { call, callJson } from "./api.js";
import { byId, fillSelect } from "./dom.js";
import { frequencyInWords, plural } from "./format.js";
import { toCsv } from "./pasted.js";
import { covariateNames } from "./requests.js";

/** @typedef {import("./requests.js").Series} Series */
/** @typedef {{columns: Record<string, string|null>, all_columns: string[], separator: string|null,
 *   freq: string|null, num_rows: number, num_repeated: number, without_values: string[],
 *   series: Series[]}} FoundFile */

const MEDIA_TYPES = { csv: "text/csv", txt: "text/csv", tsv: "text/csv", jsonl: "application/jsonl", ndjson: "application/jsonl", parquet: "application/vnd.apache.parquet", pq: "application/vnd.apache.parquet", arrow: "application/vnd.apache.arrow.stream", arrows: "application/vnd.apache.arrow.stream", feather: "application/vnd.apache.arrow.stream" };
const ROLES = ["item_id", "timestamp", "target"];
const COVARIATES = ["past_covariates", "future_covariates", "static_covariates"];
const SEPARATORS = { ",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars" };

/** Reads what the user gives and tells `onFound`. */
export class DataInput {
  /** @param {(found: FoundFile) => void} onFound */
  constructor(onFound) {
    this.onFound = onFound;
    /** @type {{content: Blob|string, mediaType: string, name: string}|null} */
    this.source = null;
    /** @type {AbortController|null} */
    this.reading = null;
    this.isCorrected = false;
    /** @type {string[]} */
    this.allColumns = [];
    /** The model whose covariates are read with the series. @type {import("./requests.js").Model|undefined} */
    this.model = undefined;
    byId("use-paste").addEventListener("click", () => this.usePaste());
    byId("file").addEventListener("change", () => this.useFiles(byId("file").files));
    byId("choose-file").addEventListener("click", () => byId("file").click());
    for (const button of document.querySelectorAll("[data-example]")) {
      button.addEventListener("click", () => this.useExample());
    }
    byId("column-timestamp").addEventListener("change", () => {
      byId("freq").value = ""; // it was that of the other column
    });
    for (const role of ROLES) byId(`column-${role}`).addEventListener("change", () => this.read(true));
    byId("freq").addEventListener("change", () => this.read(true));
    this.listenForDrops();
  }

  listenForDrops() {
    const zone = byId("drop");
    const hasFiles = (event) => event.dataTransfer?.types.includes("Files");
    const allow = (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      zone.classList.add("dropping");
    };
    document.addEventListener("dragover", allow);
    document.addEventListener("dragleave", () => zone.classList.remove("dropping"));
    document.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      zone.classList.remove("dropping");
      this.useFiles(event.dataTransfer?.files ?? null);
    });
  }

  usePaste() {
    const text = byId("paste").value;
    if (!text.trim()) {
      this.fail("Paste some numbers first: one series is enough, such as 112, 118, 132.");
      byId("paste").focus();
      return;
    }
    this.use({ ...toCsv(text), mediaType: "text/csv" });
  }

  async useExample() {
    const before = this.source;
    try {
      const content = await (await call("assets/example.csv")).text();
      if (this.source === before) this.use({ content, mediaType: "text/csv", name: "the example: airline passengers" });
    } catch (error) {
      this.fail(/** @type {Error} */ (error).message);
    }
  }

  /** @param {FileList|null} files */
  useFiles(files) {
    const file = files?.[0];
    if (!file) return;
    byId("file").value = "";
    const ending = file.name.split(".").pop()?.toLowerCase() ?? "";
    const mediaType = MEDIA_TYPES[/** @type {keyof typeof MEDIA_TYPES} */ (ending)];
    if (!mediaType) {
      this.fail(`${file.name}: only CSV, JSON Lines (.jsonl), Parquet and Arrow files can be read.`);
      return;
    }
    this.use({ content: file, mediaType, name: file.name });
  }

  /** @param {{content: Blob|string, mediaType: string, name: string}} source */
  use(source) {
    this.source = source;
    this.model = undefined;
    this.allColumns = [];
    byId("understood").hidden = true;
    return this.read(false);
  }

  /**
   * Read the same file again where another model needs other columns of it.
   * @param {import("./requests.js").Model|undefined} model
   * @returns {boolean} whether it is read again
   */
  readFor(model) {
    const wanted = covariateNames(model).filter((name) => this.allColumns.includes(name));
    const isComplete = wanted.length === covariateNames(model).length;
    const isRead = this.model === model || (!covariateNames(this.model).length && (!wanted.length || !isComplete));
    if (!this.source || isRead) return false;
    this.model = isComplete ? model : undefined;
    this.read(this.isCorrected);
    return true;
  }

  /** @param {boolean} isCorrected whether the user has said what the columns are */
  async read(isCorrected) {
    const source = this.source;
    if (!source) return;
    this.reading?.abort();
    const reading = new AbortController();
    this.reading = reading;
    this.isCorrected = isCorrected;
    const query = new URLSearchParams();
    for (const kind of COVARIATES) for (const name of this.model?.[kind] ?? []) query.append(kind, name);
    if (isCorrected) {
      for (const role of ROLES) query.set(role, byId(`column-${role}`).value);
      if (byId("freq").value.trim()) query.set("freq", byId("freq").value.trim());
    }
    byId("data-status").textContent = `Reading ${source.name} …`;
    try {
      const found = await callJson(`v1/series?${query}`, {
        method: "POST",
        headers: { "Content-Type": source.mediaType },
        body: source.content,
        signal: reading.signal,
      });
      if (reading.signal.aborted) return;
      this.allColumns = found.all_columns;
      this.showFound(found, source.name);
      this.onFound(found);
    } catch (error) {
      if (!reading.signal.aborted) this.fail(/** @type {Error} */ (error).message);
    }
  }

  /** @param {string} message */
  fail(message) {
    byId("data-status").textContent = "";
    byId("data-error").textContent = message;
    byId("data-error").hidden = false;
  }

  /**
   * @param {FoundFile} found
   * @param {string} name
   */
  showFound(found, name) {
    byId("data-error").hidden = true;
    byId("understood").hidden = false;
    const steps = found.freq ? frequencyInWords(found.freq) : "plain steps without dates";
    const separator = found.separator && found.all_columns.length > 1 ? `, separated by ${SEPARATORS[/** @type {keyof typeof SEPARATORS} */ (found.separator)]}` : "";
    byId("data-status").textContent =
      `Read ${name}: ${plural(found.num_rows, "row")}, ${plural(found.series.length, "series", "series")}, ${steps}${separator}.`;
    const columns = found.all_columns.map((column) => ({ value: column, label: column }));
    for (const role of ROLES) {
      const none = role === "target" ? [] : [{ value: "", label: role === "item_id" ? "none: one series" : "none: plain steps" }];
      fillSelect(byId(`column-${role}`), [...none, ...columns], found.columns[role] ?? "");
    }
    byId("freq").value = found.freq ?? "";
    byId("freq").disabled = !found.columns.timestamp;
  }
}
