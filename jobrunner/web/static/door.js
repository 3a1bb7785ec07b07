// Whether the server is there, and lets us in: the words at the top, and the form for the token.

import { signIn } from "./api.js";
import { announce, h, mark, say } from "./dom.js";
import { unexpected } from "./sync.js";
import { ago } from "./time.js";

const WORDS = {
  connecting: "connecting …",
  live: "live",
  lost: "connection lost; trying again …",
  denied: "signed out",
};

/** The sign of the connection. */
export class Door {
  constructor(feed) {
    this.feed = feed;
    this.sign = document.getElementById("connection");
    this.banner = document.getElementById("banner");
    this.dialog = null;
    setInterval(() => this.draw(), 1_000);
    this.draw();
  }

  /** A cut of a moment isn't worth a word: a browser resumes by itself within a second. */
  draw() {
    const { state, since } = this.feed;
    const brief = state === "lost" && Date.now() - since < 500;
    if (brief) {
      setTimeout(() => this.draw(), 500);
      return;
    }
    mark(document.body, "data-connection", state);
    say(this.sign.lastElementChild, WORDS[state]);
    mark(this.sign, "data-state", state);
    this.banner.hidden = state !== "lost";
    if (state === "lost") {
      say(this.banner, "The connection to the server is lost. What you see is as of " +
        `${since > Date.now() - 1500 ? "just now" : `${ago(since, Date.now())} ago`}; ` +
        "it is brought up to date when the server is back.");
    }
    if (state === "denied") this.ask();
    else this.dialog?.close();
  }

  ask() {
    if (this.dialog !== null) return;
    const token = h("input", { id: "token", type: "password", required: true,
      autocomplete: "current-password", "aria-describedby": "token-fault" });
    const fault = h("p.fault", { id: "token-fault", role: "alert", hidden: true });
    const form = h("form.card", { onsubmit: (event) => this.enter(event, token, fault) },
      h("h2", { id: "sign-in" }, "Sign in"),
      h("p.hint", {}, "The server asks for its token; it may have been started anew. The token " +
        "stands in the URL that ", h("code", {}, "jobrunner serve"), " prints."),
      h("div.field", {}, h("label", { for: "token" }, "Token"), token, fault),
      h("div.actions", {}, h("button.go", { type: "submit" }, "Sign in")));
    this.dialog = h("dialog", { "aria-labelledby": "sign-in",
      oncancel: (event) => event.preventDefault(), onclose: () => {
        this.dialog?.remove();
        this.dialog = null;
      } }, form);
    document.body.append(this.dialog);
    this.dialog.showModal();
    token.focus();
  }

  async enter(event, token, fault) {
    event.preventDefault();
    try {
      if (await signIn(token.value)) {
        announce("Signed in");
        this.dialog?.close();
        this.feed.again();
        return;
      }
      say(fault, "That is not this server's token.");
    } catch (error) {
      say(fault, unexpected(error).message);
    }
    fault.hidden = false;
    token.select();
  }
}
