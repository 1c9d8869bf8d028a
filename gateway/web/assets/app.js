// The page: signing in, the list of agents, and what ties conversation and memory together.

import { connect } from "/hearth.js";
import { apiKey, currentToken, signIn, signOut } from "./auth.js";
import { ConversationView } from "./conversation.js";
import { byId, el, show } from "./dom.js";
import { MemoryPanel } from "./memory.js";

const WIDE = matchMedia("(min-width: 1080px)");
const STATES = { connecting: "Connecting…", open: "Connected", waiting: "Reconnecting…", closed: "Disconnected" };

let hearth = null;
let view = null;
let memory = null;
let agents = [];
let chosen = null;

byId("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("button");
  button.disabled = true;
  show(byId("sign-in-error"), "");
  try {
    await signIn(byId("api-key").value.trim());
    byId("api-key").value = "";
    enter();
  } catch (error) {
    show(byId("sign-in-error"), error.message);
    byId("api-key").select();
  } finally {
    button.disabled = false;
  }
});

function enter() {
  byId("sign-in").hidden = true;
  byId("workspace").hidden = false;
  hearth = connect("/v1/socket", { token: currentToken, onState: showState, client: { name: "page", version: "1" } });
  const call = (...request) => hearth.call(...request);
  memory = new MemoryPanel(call);
  view = new ConversationView(hearth, { memoryChanged: () => memory.refresh() });
  loadAgents();
}

function leave(message) {
  hearth?.close();
  hearth = null;
  signOut();
  view?.close();
  agents = [];
  chosen = null;
  byId("workspace").hidden = true;
  byId("sign-in").hidden = false;
  show(byId("sign-in-error"), message);
  byId("api-key").focus();
}

function showState(state, { error, retryInMs } = {}) {
  const badge = byId("connection");
  badge.dataset.state = state;
  badge.lastElementChild.textContent = STATES[state];
  const lost = state === "waiting" && retryInMs > 0;
  if (state === "open" || lost) {
    show(byId("banner"), lost ? "The connection is lost. Reconnecting; nothing that is said meanwhile gets lost." : "");
  }
  if (state === "closed" && error?.code === "UNAUTHENTICATED") leave("Your key is no longer accepted. Sign in again.");
  else if (state === "closed" && error) show(byId("banner"), `Disconnected: ${error.message}. Reload the page to try again.`);
}

// Agents.

async function loadAgents() {
  try {
    agents = await everyAgent();
    renderAgents();
    const [, agentId, conversationId] = location.hash.split("/");
    const wanted = agents.find((agent) => agent.id === agentId) ?? agents[0];
    if (wanted) await choose(wanted, wanted.id === agentId ? conversationId : undefined);
    else show(byId("empty"), "Create your first agent to begin.");
  } catch (error) {
    if (hearth) show(byId("banner"), `The agents cannot be listed: ${error.message}`);
  }
}

async function everyAgent() {
  const found = [];
  let pageToken = "";
  do {
    const page = await hearth.call("agent.ListAgents", { page_size: 200, page_token: pageToken });
    found.push(...(page.agents ?? []));
    pageToken = page.next_page_token ?? "";
  } while (pageToken && found.length < 2000);
  return found;
}

function renderAgents() {
  const items = agents.map((agent) => {
    const current = agent.id === chosen?.id;
    const initial = el("span", { class: "avatar", "aria-hidden": "true", text: Array.from(agent.name)[0]?.toUpperCase() ?? "?" });
    const lines = el("span", { class: "lines" }, el("b", { text: agent.name }), el("small", { text: agent.model ?? "" }));
    const button = el("button", { type: "button", "aria-current": current ? "true" : null, onclick: () => choose(agent) }, initial, lines);
    return el("li", {}, button);
  });
  byId("agents").replaceChildren(...items);
}

async function choose(agent, conversationId = agent.default_conversation_id) {
  chosen = agent;
  setDrawer(false);
  renderAgents();
  byId("agent-name").textContent = agent.name;
  byId("agent-model").textContent = agent.model ?? "";
  document.title = `${agent.name} · Hearth`;
  for (const id of ["composer", "new-conversation", "toggle-memory"]) byId(id).hidden = false;
  setMemory(WIDE.matches);
  memory.show(agent.id);
  await openConversation(conversationId);
  byId("text").focus();
}

// Conversations.

async function openConversation(conversationId) {
  const agent = chosen;
  history.replaceState(null, "", `#/${agent.id}/${conversationId}`);
  await Promise.all([view.open(agent, conversationId), listConversations(agent, conversationId)]);
}

async function listConversations(agent, conversationId) {
  const select = byId("conversations");
  try {
    const { conversations = [] } = await hearth.call("agent.ListConversations", { agent_id: agent.id, page_size: 100 });
    if (agent !== chosen) return;
    const options = conversations.map((one, index) => {
      const standard = one.id === agent.default_conversation_id;
      const name = one.display_name || (standard ? "Main conversation" : `Conversation ${conversations.length - index}`);
      return el("option", { value: one.id, text: name, selected: one.id === conversationId });
    });
    select.replaceChildren(...options);
    select.hidden = options.length < 2;
  } catch {
    select.hidden = true;
  }
}

byId("conversations").addEventListener("change", (event) => openConversation(event.target.value));

byId("new-conversation").addEventListener("click", async () => {
  try {
    const { conversation } = await hearth.call("agent.CreateConversation", { agent_id: chosen.id });
    await openConversation(conversation.id);
    byId("text").focus();
  } catch (error) {
    show(byId("banner"), `No new conversation: ${error.message}`);
  }
});

// Saying something.

const text = byId("text");

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const said = text.value.trim();
  if (!said) return;
  text.value = "";
  grow();
  view.send(said);
});

text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  byId("composer").requestSubmit();
});

text.addEventListener("input", grow);

function grow() {
  text.style.height = "auto";
  text.style.height = `${Math.min(text.scrollHeight, 220)}px`;
}

byId("stop").addEventListener("click", () => view.stop());

// Creating an agent.

byId("new-agent").addEventListener("click", async () => {
  show(byId("agent-error"), "");
  byId("agent-form").reset();
  byId("new-model").replaceChildren(el("option", { value: "", text: "Default" }));
  byId("agent-dialog").showModal();
  byId("new-name").focus();
  try {
    const { models = [] } = await hearth.call("agent.ListModels", {});
    const options = models.filter((model) => model.usable).map((model) => el("option", { value: model.name, text: model.name }));
    const standard = models.find((model) => model.default)?.name;
    byId("new-model").replaceChildren(el("option", { value: "", text: standard ? `Default (${standard})` : "Default" }), ...options);
  } catch (error) {
    show(byId("agent-error"), `The models cannot be listed: ${error.message}`);
  }
});

byId("cancel-agent").addEventListener("click", () => byId("agent-dialog").close());

byId("agent-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.target.querySelector("[type=submit]");
  button.disabled = true;
  try {
    const wish = {
      name: byId("new-name").value.trim(),
      model: byId("new-model").value,
      instructions: byId("new-instructions").value.trim(),
    };
    const { agent } = await hearth.call("agent.CreateAgent", wish);
    byId("agent-dialog").close();
    agents = [agent, ...agents];
    await choose(agent);
  } catch (error) {
    show(byId("agent-error"), error.message);
  } finally {
    button.disabled = false;
  }
});

// Panels.

function setMemory(open) {
  byId("memory").hidden = !open;
  byId("toggle-memory").setAttribute("aria-expanded", String(open));
}

function setDrawer(open) {
  byId("sidebar").classList.toggle("open", open);
}

byId("toggle-memory").addEventListener("click", () => setMemory(byId("memory").hidden));
byId("close-memory").addEventListener("click", () => setMemory(false));
byId("open-sidebar").addEventListener("click", () => setDrawer(true));
byId("close-sidebar").addEventListener("click", () => setDrawer(false));
byId("sign-out").addEventListener("click", () => leave(""));

if (apiKey()) {
  enter();
} else {
  byId("sign-in").hidden = false;
  byId("api-key").focus();
}
