// A conversation as it is shown: a pure function of its events, deltas and what is being sent. Knows no network.

import { el, moment } from "./dom.js";
import { render } from "./markdown.js";

const OUTCOMES = {
  TOOL_CALL_OUTCOME_SUCCEEDED: ["succeeded", "✓"],
  TOOL_CALL_OUTCOME_FAILED: ["failed", "✕"],
  TOOL_CALL_OUTCOME_UNKNOWN: ["unknown", "?"],
};

/** Draws into `log`. `actions.resolve(runId, approval, approved)` is what its buttons do, `actions.grown()` hears of new text. */
export class Transcript {
  #log;
  #actions;
  #messages = new Map();
  #calls = new Map();
  #runs = new Map();
  #pending = [];
  #typing = el("div", { class: "typing", "aria-label": "The agent is working" }, el("i"), el("i"), el("i"));
  #frame = null;
  #dirty = new Map();

  constructor(log, actions) {
    this.#log = log;
    this.#actions = actions;
    log.replaceChildren();
  }

  /** Ids of the runs that have not ended, oldest first. */
  get activeRuns() {
    return [...this.#runs].filter(([, run]) => !run.ended).map(([id]) => id);
  }

  /** Whether there is nothing to show. */
  get isEmpty() {
    return this.#log.childElementCount === 0;
  }

  /** Shows a message that is on its way; returns its element for `sent` or `notSent`. */
  sending(text) {
    const element = bubble(text);
    element.classList.add("pending");
    this.#pending.push({ element, text });
    this.#log.append(element);
    return element;
  }

  /** It is not known that a message was sent: it stays, with a way to send it again. */
  notSent(element, why, again) {
    this.#pending = this.#pending.filter((one) => one.element !== element);
    element.classList.add("not-sent");
    const button = el("button", { type: "button", class: "quiet", text: "Send again", onclick: () => {
      note.remove();
      element.remove();
      again();
    } });
    const note = el("p", { class: "note error", role: "alert" }, `Perhaps not sent: ${why} `, button);
    element.after(note);
  }

  /** Applies an event of the log. */
  event({ event, data, run_id: runId, time }) {
    const handler = {
      run_queued: () => this.#run(runId),
      run_started: () => this.#run(runId),
      message_completed: () => this.#completed(data?.message, time),
      step_restarted: () => this.#restarted(data?.message_id),
      tool_call_started: () => this.#call(runId, data?.tool_call),
      tool_call_completed: () => this.#callEnded(runId, data ?? {}),
      approval_requested: () => this.#approval(runId, data ?? {}),
      approval_resolved: () => this.#approvalResolved(data ?? {}),
      memory_updated: () => this.#note(memoryNote(data ?? {}), "memory-note"),
      context_compacted: () => this.#note("Older messages were summarised to make room."),
      run_succeeded: () => this.#ended(runId),
      run_failed: () => this.#failed(runId, data ?? {}),
      run_cancelled: () => {
        this.#ended(runId);
        this.#note("Stopped.");
      },
    }[event];
    handler?.();
    this.#placeTyping();
  }

  /** Applies text in progress: { messageId, runId, text, reasoning }. */
  text(message) {
    this.#run(message.runId);
    this.#dirty.set(message.messageId, message);
    this.#frame ??= requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#frame = null;
    for (const message of this.#dirty.values()) {
      const element = this.#assistant(message.messageId);
      if (element.dataset.complete) continue;
      this.#fill(element, message.text, message.reasoning);
      element.classList.add("streaming");
      element.setAttribute("aria-busy", "true");
    }
    this.#dirty.clear();
    this.#placeTyping();
    this.#actions.grown?.();
  }

  #run(runId) {
    if (!this.#runs.has(runId)) this.#runs.set(runId, { ended: false });
    return this.#runs.get(runId);
  }

  #completed(message, time) {
    if (!message) {
      this.#note("A message too large to show here.");
      return;
    }
    if (message.role === "MESSAGE_ROLE_USER") this.#user(message, time);
    else if (message.role === "MESSAGE_ROLE_ASSISTANT") this.#answered(message, time);
    else if (message.role === "MESSAGE_ROLE_TOOL") this.#toolResult(message);
    else this.#note(message.text ?? "", "summary");
  }

  #user(message, time) {
    const place = this.#pending.findIndex((one) => one.text === message.text);
    if (place >= 0) this.#pending.splice(place, 1)[0].element.remove();
    const element = bubble(message.text ?? "");
    element.title = moment(time);
    this.#log.append(element);
  }

  #answered(message, time) {
    this.#dirty.delete(message.id);
    const element = this.#assistant(message.id);
    settle(element);
    element.dataset.complete = "yes";
    element.title = moment(time);
    this.#fill(element, message.text ?? "", message.reasoning ?? "");
    if (!message.text && !message.reasoning) element.remove();
    for (const call of message.tool_calls ?? []) this.#call(message.run_id, call);
  }

  #assistant(messageId) {
    let element = this.#messages.get(messageId);
    if (!element) {
      element = el("article", { class: "message assistant" });
      this.#messages.set(messageId, element);
      this.#log.append(element);
    }
    return element;
  }

  #fill(element, text, reasoning) {
    const children = render(text);
    if (reasoning) {
      const open = element.querySelector("details")?.open ?? false;
      const details = el("details", { class: "reasoning" }, el("summary", { text: "Reasoning" }), ...render(reasoning));
      details.open = open;
      children.unshift(details);
    }
    element.replaceChildren(...children);
  }

  #restarted(messageId) {
    this.#dirty.delete(messageId);
    this.#messages.get(messageId)?.remove();
    this.#messages.delete(messageId);
  }

  #call(runId, call) {
    const key = `${runId} ${call?.id}`;
    if (!call || this.#calls.has(key)) return;
    const badge = el("span", { class: "badge", "aria-label": "running" }, el("i", { class: "spinner" }));
    const status = el("span", { class: "muted took" });
    const detail = el("div", { class: "detail" }, labelled("Arguments", pretty(call.arguments_json ?? "")));
    const element = el(
      "details",
      { class: "tool", "data-outcome": "running" },
      el("summary", {}, badge, el("code", { text: call.name ?? "tool" }), status),
      detail,
    );
    this.#calls.set(key, { element, badge, status, detail });
    this.#log.append(element);
  }

  #callEnded(runId, { tool_call_id: id, outcome, duration_ms: took = 0 }) {
    const call = this.#calls.get(`${runId} ${id}`);
    if (!call) return;
    const [word, sign] = OUTCOMES[outcome] ?? ["unknown", "?"];
    call.element.dataset.outcome = word;
    call.badge.replaceChildren(sign);
    call.badge.setAttribute("aria-label", word);
    call.status.textContent = took >= 1000 ? `${(took / 1000).toFixed(1)} s` : `${took} ms`;
  }

  #toolResult(message) {
    const call = this.#calls.get(`${message.run_id} ${message.tool_call_id}`);
    if (!call) return;
    call.detail.append(labelled("Result", message.text ?? ""));
    if (call.element.dataset.outcome === "running") {
      this.#callEnded(message.run_id, { tool_call_id: message.tool_call_id, outcome: message.tool_outcome });
    }
  }

  #approval(runId, approval) {
    const decide = (approved) => {
      for (const button of card.querySelectorAll("button")) button.disabled = true;
      this.#actions.resolve(runId, approval, approved);
    };
    const card = el(
      "section",
      { class: "approval", "data-approval": approval.approval_id },
      el("p", { text: "The agent asks for permission:" }),
      ...(approval.tool_calls ?? []).map((call) => labelled(call.name, pretty(call.arguments_json ?? ""))),
      el("div", { class: "row" },
        el("button", { type: "button", class: "quiet", text: "Deny", onclick: () => decide(false) }),
        el("button", { type: "button", class: "primary", text: "Allow", onclick: () => decide(true) })),
    );
    this.#log.append(card);
  }

  #approvalResolved({ approval_id: id, approved }) {
    const card = this.#log.querySelector(`[data-approval="${CSS.escape(id)}"]`);
    card?.querySelector(".row")?.replaceWith(el("p", { class: "muted", text: approved ? "Allowed." : "Denied." }));
  }

  #ended(runId) {
    this.#run(runId).ended = true;
    for (const [key, call] of this.#calls) {
      if (key.startsWith(`${runId} `) && call.element.dataset.outcome === "running") {
        this.#callEnded(runId, { tool_call_id: key.slice(runId.length + 1), outcome: "" });
      }
    }
    for (const element of this.#messages.values()) settle(element);
  }

  #failed(runId, { error = {}, stop_reason: stop = "" }) {
    this.#ended(runId);
    const what = error.message || words(stop.replace("RUN_STOP_REASON_", "")) || "The run failed.";
    const card = el("section", { class: "failure", role: "alert" }, el("strong", { text: "This run failed" }), el("p", { text: what }));
    if (error.reason) card.append(el("code", { text: error.reason }));
    this.#log.append(card);
  }

  #note(text, kind = "") {
    this.#log.append(el("p", { class: `note ${kind}`, text }));
  }

  #placeTyping() {
    const working = this.activeRuns.length > 0 && !this.#log.querySelector(".streaming");
    if (working) this.#log.append(this.#typing);
    else this.#typing.remove();
    for (const { element } of this.#pending) this.#log.append(element);
  }
}

function bubble(text) {
  return el("article", { class: "message user" }, el("p", { text }));
}

function settle(element) {
  element.classList.remove("streaming");
  element.removeAttribute("aria-busy");
}

function labelled(label, text) {
  return el("div", { class: "labelled" }, el("small", { class: "muted", text: label }), el("pre", { tabindex: "0", text }));
}

function pretty(json) {
  try {
    return JSON.stringify(JSON.parse(json), null, 2);
  } catch {
    return json;
  }
}

function memoryNote({ block_label: label, resource_ids: ids = [] }) {
  if (label) return `Memory changed: ${label}`;
  return ids.length > 1 ? `Stored ${ids.length} memories` : "Stored a memory";
}

function words(constant) {
  const text = constant.replaceAll("_", " ").toLowerCase();
  return text && `${text[0].toUpperCase()}${text.slice(1)}.`;
}
