// Submitting a job: its type, a form made of the type's schema, and what goes with any job.

import { ask, post } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { SchemaForm } from "./forms.js";
import { unexpected } from "./sync.js";

const TEXTS = {
  session_id: ["Session", "Session to list the job by"],
  concurrency_key: ["Concurrency key", "Jobs of the type with the same key are limited together"],
  webhook_url: ["Webhook URL", "Where to post that the job has ended"],
};
const OPTIONS = {
  type: "object",
  properties: {
    ...Object.fromEntries(Object.entries(TEXTS).map(([name, [title, description]]) =>
      [name, { type: "string", title, description, maxLength: 200 }])),
    priority: { type: "integer", title: "Priority", description: "-100 to 100; higher is earlier" },
    delay: { type: "number", title: "Delay", description: "Seconds before which it doesn't start" },
    timeout: { type: "number", title: "Time limit", description: "Seconds for each attempt" },
    metadata: { title: "Metadata", description: "A JSON object that is kept with the job" },
  },
};

/** The view with the form. */
export class SubmitView {
  constructor(app) {
    this.app = app;
  }

  async enter(wanted) {
    this.types = h("select", { id: "job-type", onchange: () => this.choose(this.types.value) });
    this.about = h("p.hint");
    this.place = h("div");
    this.options = new SchemaForm(OPTIONS);
    this.options.toggle.remove();
    this.button = h("button.go", { type: "submit" }, "Submit job");
    this.form = h("form.card", { onsubmit: (event) => this.submit(event), novalidate: true },
      h("h1", {}, "Submit a job"),
      h("div.field", {}, h("label", { for: "job-type" }, "Type"), this.types, this.about),
      this.place,
      h("details.more", {}, h("summary", {}, "More options"), this.options.element),
      h("div.actions", {}, this.button, h("span.hint", {}, "Ctrl Enter")));
    this.form.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) this.form.requestSubmit();
    });
    await this.load(wanted);
    return h("div.narrow", {}, this.form);
  }

  leave() {}

  /** Begin anew after a cut, if the types aren't known yet. */
  look() {
    if (this.known === undefined) this.app.route();
  }

  async load(wanted) {
    try {
      this.known = (await ask("types")).types;
    } catch (error) {
      fill(this.form, h("h1", {}, "Submit a job"),
        h("p.fault", { role: "alert" }, unexpected(error).message));
      return;
    }
    if (!this.known.length) {
      fill(this.form, h("h1", {}, "Submit a job"), h("p.empty", {},
        "This runner has no job types yet. Give it one with ", h("code", {}, "@runner.job"), "."));
      return;
    }
    fill(this.types, this.known.map(({ type }) => h("option", { value: type }, type)));
    const has = this.known.some(({ type }) => type === wanted);
    this.choose(has ? wanted : this.known[0].type);
  }

  choose(type) {
    const { description, params } = this.known.find((each) => each.type === type);
    this.types.value = type;
    fill(this.about, description.split("\n\n")[0]);
    this.params = new SchemaForm(params, { title: "Params", pointer: "/params" });
    fill(this.place, this.params.element);
  }

  async submit(event) {
    event.preventDefault();
    this.button.disabled = true;
    this.params.clear();
    this.options.clear();
    const more = this.options.field.read().slice(1, -1);
    const body = `{"type":${JSON.stringify(this.types.value)},"params":${this.params.read()}` +
      `${more && `,${more}`}}`;
    try {
      const job = await post("jobs", body);
      announce(`Submitted ${job.type}`);
      this.app.jobs.take(job);
      this.app.go(`jobs/${encodeURIComponent(job.job_id)}`);
    } catch (error) {
      this.refused(unexpected(error));
    }
    this.button.disabled = false;
  }

  /** The option that is wrong may be one of the job's, or a member of its params. */
  refused(problem) {
    const names = Object.keys(OPTIONS.properties).map((name) => `#/${name}`);
    const own = (problem.errors ?? []).filter(({ pointer }) =>
      names.some((name) => pointer === name || pointer.startsWith(`${name}/`)));
    if (own.length) {
      this.form.querySelector("details").open = true;
      this.options.refused({ ...problem, message: problem.message, errors: own });
    } else this.params.refused(problem);
  }
}
