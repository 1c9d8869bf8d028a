// The side panel: the agent's memory blocks as they are now.

import { byId, el, moment } from "./dom.js";

/** Shows the blocks of one agent and marks what has changed since the last look. */
export class MemoryPanel {
  #call;
  #agentId = null;
  #versions = new Map();
  #reading = null;

  constructor(call) {
    this.#call = call;
  }

  /** Shows another agent's memory. */
  async show(agentId) {
    this.#agentId = agentId;
    this.#versions.clear();
    byId("blocks").replaceChildren();
    await this.refresh();
  }

  /** Reads the blocks again; several requests at once become one. */
  refresh() {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = null;
    });
    return this.#reading;
  }

  async #read() {
    const agentId = this.#agentId;
    if (!agentId) return;
    try {
      const { blocks = [] } = await this.#call("memory.ListBlocks", { agent_id: agentId, page_size: 200 });
      if (agentId === this.#agentId) this.#render(blocks);
    } catch (error) {
      if (agentId !== this.#agentId) return;
      byId("blocks").replaceChildren(el("p", { class: "muted", text: `Memory cannot be read now: ${error.message}` }));
    }
  }

  #render(blocks) {
    const first = this.#versions.size === 0;
    const cards = blocks.map((block) => {
      const changed = !first && this.#versions.get(block.id) !== (block.version ?? 0);
      this.#versions.set(block.id, block.version ?? 0);
      return card(block, changed);
    });
    if (cards.length === 0) cards.push(el("p", { class: "muted", text: "No memory blocks yet." }));
    byId("blocks").replaceChildren(...cards);
  }
}

function card(block, changed) {
  const used = Array.from(block.value ?? "").length;
  const meter = el("meter", { min: "0", max: String(block.limit || 1), value: String(used), title: `${used} of ${block.limit} characters` });
  return el(
    "article",
    { class: changed ? "block changed" : "block", "aria-label": `Memory block ${block.label}` },
    el("h3", {}, el("span", { text: block.label }), block.read_only ? el("small", { class: "tag", text: "read-only" }) : null),
    block.description ? el("p", { class: "hint", text: block.description }) : null,
    block.value ? el("p", { class: "value", text: block.value }) : el("p", { class: "value muted", text: "empty" }),
    el("footer", {}, block.limit ? meter : null, el("small", { class: "muted", text: footnote(block) })),
  );
}

function footnote(block) {
  const version = block.version ? `v${block.version}` : "";
  return [version, block.update_time ? moment(block.update_time) : ""].filter(Boolean).join(" · ");
}
