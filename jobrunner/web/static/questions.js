// What a job asks a person: a form for each open question, made of its schema.

import { post } from "./api.js";
import { announce, fill, h } from "./dom.js";
import { SchemaForm, plain } from "./forms.js";
import { unexpected } from "./sync.js";
import { absolute, ago, at } from "./time.js";

const BUTTONS = 6;

/** The open questions of a job; a form stays as it is while its question is open. */
export class Questions {
  constructor(id) {
    this.id = id;
    this.forms = new Map();
    this.element = h("section.questions", { "aria-label": "Questions" });
    this.element.hidden = true;
  }

  show(questions) {
    const open = new Set(questions.map((each) => each.question_id));
    for (const [id, form] of this.forms) {
      if (!open.has(id)) {
        form.remove();
        this.forms.delete(id);
      }
    }
    for (const question of questions) {
      if (this.forms.has(question.question_id)) continue;
      const form = this.form(question);
      this.forms.set(question.question_id, form);
      this.element.append(form);
      announce(`The job asks: ${question.prompt}`);
    }
    this.element.hidden = this.forms.size === 0;
  }

  form(question) {
    const id = question.question_id;
    const head = h("h2.prompt", { id: `q-${id}` }, question.prompt);
    const until = at(question.expires_at);
    const note = until === null ? null :
      h("p.hint", {}, "can be answered for ", h("time", { title: absolute(until) },
        ago(until).replace("in ", "")));
    const choices = choicesOf(question.schema);
    const form = h("form.card.question", { "aria-labelledby": `q-${id}`, novalidate: true }, head);
    const schema = new SchemaForm(question.schema, { title: "Answer", pointer: "/value" });
    if (choices === null) {
      form.append(schema.element,
        h("div.actions", {}, h("button.go", { type: "submit" }, "Answer")));
    } else {
      form.append(schema.summary, h("div.actions", {}, choices.map(([text, value]) =>
        h("button.go", { type: "button", onclick: () => this.send(id, value, form, schema) },
          text))));
    }
    if (note) form.append(note);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (choices === null) this.send(id, schema.read(), form, schema);
    });
    return form;
  }

  async send(id, value, form, schema) {
    const buttons = [...form.querySelectorAll("button")];
    for (const button of buttons) button.disabled = true;
    schema.clear();
    try {
      await post(`jobs/${encodeURIComponent(this.id)}/input`,
        `{"question_id":${JSON.stringify(id)},"value":${value}}`);
      announce("Answered");
      fill(form, h("p.hint", {}, "Answered; the job goes on."));
    } catch (error) {
      for (const button of buttons) button.disabled = false;
      schema.refused(unexpected(error));
    }
  }
}

/** Return what can be chosen by a button, as text and JSON; null when it needs a form. */
function choicesOf(schema) {
  const { own, nullable } = plain(schema, schema);
  let choices = null;
  if (own.type === "boolean") choices = [["Yes", "true"], ["No", "false"]];
  else if (own.enum && own.enum.length <= BUTTONS) {
    choices = own.enum.map((value) =>
      [typeof value === "string" ? value : JSON.stringify(value), JSON.stringify(value)]);
  }
  if (choices !== null && nullable) choices.push(["No answer", "null"]);
  return choices;
}
