// The conversation in the middle: follows its log, sends messages, stops runs.

import { newRequestId } from "/hearth.js";
import { byId, show } from "./dom.js";
import { Transcript } from "./transcript.js";

const REPLAYED_EVENTS = 500;
const NEAR_THE_END_PX = 120;

/** One conversation on screen. `hooks.memoryChanged()` is called when the agent has edited its memory. */
export class ConversationView {
  #hearth;
  #hooks;
  #following = null;
  #transcript = null;
  #agent = null;
  #conversationId = null;
  #opening = null;
  #sticky = true;

  constructor(hearth, hooks) {
    this.#hearth = hearth;
    this.#hooks = hooks;
    const scroller = byId("scroller");
    scroller.addEventListener("scroll", () => {
      this.#sticky = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < NEAR_THE_END_PX;
    }, { passive: true });
    new ResizeObserver(() => this.#scroll()).observe(scroller);
  }

  /** Shows a conversation, from its recent past on. */
  async open(agent, conversationId) {
    this.close();
    // Opened again before the answer came, even the same one: only the last opening goes on.
    const opening = Symbol("opening");
    this.#opening = opening;
    this.#agent = agent;
    this.#conversationId = conversationId;
    this.#sticky = true;
    const actions = {
      resolve: (runId, approval, approved) => this.#resolve(runId, approval, approved),
      grown: () => this.#scroll(),
    };
    this.#transcript = new Transcript(byId("log"), actions);
    this.#showEmptiness("Loading…");
    try {
      const { conversation } = await this.#hearth.call("agent.GetConversation", { conversation_id: conversationId });
      if (this.#opening === opening) this.#follow(Math.max(0, (conversation.head_seq ?? 0) - REPLAYED_EVENTS));
    } catch (error) {
      if (this.#opening === opening) this.#showEmptiness(`This conversation cannot be shown: ${error.message}`);
    }
  }

  /** Leaves the conversation. */
  close() {
    this.#following?.close();
    this.#following = null;
    this.#opening = null;
    this.#conversationId = null;
    byId("log").replaceChildren();
    this.#showEmptiness("");
  }

  /** Says something to the agent; the same request id again is the same message. */
  async send(text, requestId = newRequestId()) {
    const transcript = this.#transcript;
    if (!transcript || !this.#conversationId) return;
    const element = transcript.sending(text);
    this.#sticky = true;
    this.#changed();
    try {
      await this.#hearth.call("agent.StartRun", { conversation_id: this.#conversationId, text }, { requestId });
    } catch (error) {
      transcript.notSent(element, error.message, () => this.send(text, requestId));
      this.#changed();
    }
  }

  /** Cancels what the agent is doing. */
  async stop() {
    const runs = this.#transcript?.activeRuns ?? [];
    for (const run of runs) {
      try {
        await this.#hearth.call("agent.CancelRun", { run_id: run });
      } catch (error) {
        if (error.reason !== "RUN_ENDED") show(byId("banner"), `The run could not be stopped: ${error.message}`);
      }
    }
  }

  #follow(afterSeq) {
    const transcript = this.#transcript;
    const topic = `conversation:${this.#conversationId}`;
    this.#following = this.#hearth.subscribe(topic, {
      afterSeq,
      onOpen: () => this.#changed(),
      onEvent: (event) => {
        transcript.event(event);
        if (event.event === "memory_updated") this.#hooks.memoryChanged();
        this.#changed();
      },
      onText: (message) => transcript.text(message),
      onReset: () => this.open(this.#agent, this.#conversationId),
      onEnd: ({ error }) => this.#showEmptiness(error ? `This conversation ended: ${error.message}` : ""),
    });
  }

  async #resolve(runId, approval, approved) {
    try {
      await this.#hearth.call("agent.ResolveApproval", {
        run_id: runId,
        approval_id: approval.approval_id,
        arguments_hash: approval.arguments_hash,
        approved,
      });
    } catch (error) {
      show(byId("banner"), `The decision could not be given: ${error.message}`);
    }
  }

  #changed() {
    const working = this.#transcript.activeRuns.length > 0;
    byId("stop").hidden = !working;
    this.#showEmptiness(this.#transcript.isEmpty ? `Say hello to ${this.#agent.name}.` : "");
    this.#scroll();
  }

  #showEmptiness(text) {
    show(byId("empty"), text);
  }

  #scroll() {
    if (!this.#sticky) return;
    const scroller = byId("scroller");
    scroller.scrollTop = scroller.scrollHeight;
  }
}
