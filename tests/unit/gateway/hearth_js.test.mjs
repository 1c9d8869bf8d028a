// hearth.js against a WebSocket that the test plays: assembly, resume, retry, tokens, closing. Run by `node --test`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { pathToFileURL } from "node:url";

const { connect, HearthError, MessageAssembler } = await import(pathToFileURL(process.env.HEARTH_JS));

class FakeSocket {
  static all = [];

  constructor(url, protocols) {
    this.url = url;
    this.protocols = protocols;
    this.sent = [];
    this.readyState = 1;
    FakeSocket.all.push(this);
    queueMicrotask(() => this.onopen());
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  push(frame) {
    this.onmessage({ data: JSON.stringify(frame) });
  }

  drop(code = 1006, reason = "") {
    this.readyState = 3;
    this.onclose({ code, reason });
  }

  last(type) {
    return this.sent.filter((message) => message.type === type).at(-1);
  }

  welcome() {
    this.push({ type: "welcome", id: this.last("hello").id, session: "x", ping_ms: 25000 });
  }
}

async function until(holds) {
  for (let tries = 0; tries < 500; tries += 1) {
    if (holds()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  assert.fail(`never: ${holds}`);
}

async function opened(options = {}) {
  FakeSocket.all = [];
  const states = [];
  const tokens = [];
  const token = async (how) => {
    tokens.push(how.refresh);
    return `token-${tokens.length}`;
  };
  const onState = (state, detail) => states.push([state, detail]);
  const hearth = connect("http://hearth.test/v1/socket", { token, WebSocket: FakeSocket, onState, ...options });
  await until(() => FakeSocket.all[0]?.last("hello"));
  FakeSocket.all[0].welcome();
  return { hearth, states, tokens, socket: FakeSocket.all[0] };
}

async function reconnected(count) {
  await until(() => FakeSocket.all.length === count && FakeSocket.all.at(-1).last("hello"));
  FakeSocket.all.at(-1).welcome();
  return FakeSocket.all.at(-1);
}

const delta = (offset, text, more = {}) => ({ type: "delta", message_id: "m", run_id: "r", attempt: 1, kind: "text", offset, text, ...more });

test("deltas are assembled by code point, idempotently, and gaps wait for a snapshot", () => {
  const assembler = new MessageAssembler();
  assert.equal(assembler.take(delta(0, "Hi 🐕")).text, "Hi 🐕");
  assert.equal(assembler.take(delta(4, " ok")).text, "Hi 🐕 ok");
  assert.equal(assembler.take(delta(4, " ok")), null);
  assert.equal(assembler.take(delta(3, "🐕 ok, then")).text, "Hi 🐕 ok, then");
  assert.equal(assembler.take(delta(99, "lost")), null);
  assert.equal(assembler.take(delta(0, "Hi 🐕 ok, then all", { type: "snapshot" })).text, "Hi 🐕 ok, then all");
  assert.equal(assembler.take(delta(17, "!")).text, "Hi 🐕 ok, then all!");
  assert.equal(assembler.take(delta(0, "thinking", { kind: "reasoning" })).reasoning, "thinking");
});

test("a higher attempt starts the message again, a lower one is ignored", () => {
  const assembler = new MessageAssembler();
  assembler.take(delta(0, "first try"));
  assert.equal(assembler.take(delta(0, "second", { attempt: 2 })).text, "second");
  assert.equal(assembler.take(delta(9, " late", { attempt: 1 })), null);
  assembler.event({ event: "message_completed", data: { message: { id: "m" } } });
  assert.equal(assembler.take(delta(6, " later", { attempt: 2 })), null);
});

test("hello carries the token and the subprotocol is asked for", async () => {
  const { hearth, socket } = await opened();
  assert.equal(socket.url, "ws://hearth.test/v1/socket");
  assert.deepEqual(socket.protocols, ["hearth.v1"]);
  assert.equal(socket.last("hello").token, "token-1");
  hearth.close();
});

test("calls resolve with the result and reject with the reason", async () => {
  const { hearth, socket } = await opened();
  const good = hearth.call("agent.ListAgents", { page_size: 1 });
  socket.push({ type: "ok", id: socket.last("call").id, result: { agents: [] } });
  assert.deepEqual(await good, { agents: [] });
  const bad = hearth.call("agent.GetAgent", {});
  socket.push({ type: "error", id: socket.last("call").id, code: "NOT_FOUND", reason: "RESOURCE_NOT_FOUND", message: "no" });
  await assert.rejects(bad, (error) => error instanceof HearthError && error.reason === "RESOURCE_NOT_FOUND");
  hearth.close();
});

test("a break sends harmless calls again with the same request id, and rejects the others", async () => {
  const { hearth, socket } = await opened();
  const start = hearth.call("agent.StartRun", { text: "x" });
  const requestId = socket.last("call").request_id;
  const update = hearth.call("agent.UpdateAgent", {});
  socket.drop();
  await assert.rejects(update, { code: "UNAVAILABLE" });
  const second = await reconnected(2);
  assert.equal(second.last("call").request_id, requestId);
  second.push({ type: "ok", id: second.last("call").id, result: { run: { id: "run_1" } } });
  assert.equal((await start).run.id, "run_1");
  hearth.close();
});

test("subscriptions resume after the last event, and never hand out one twice", async () => {
  const { hearth, socket } = await opened();
  const seqs = [];
  hearth.subscribe("conversation:conv_1", { afterSeq: 0, onEvent: (event) => seqs.push(event.seq) });
  const first = socket.last("subscribe");
  assert.equal(first.after_seq, 0);
  socket.push({ type: "ok", id: first.id, resumed: true, head_seq: 2, first_seq: 1 });
  for (const seq of [1, 2]) socket.push({ type: "event", sub: first.sub, seq, event: "run_queued", data: {} });
  socket.drop();
  const second = await reconnected(2);
  const again = second.last("subscribe");
  assert.equal(again.after_seq, 2);
  second.push({ type: "ok", id: again.id, resumed: true, head_seq: 4, first_seq: 1 });
  for (const seq of [2, 3, 4]) second.push({ type: "event", sub: again.sub, seq, event: "run_queued", data: {} });
  assert.deepEqual(seqs, [1, 2, 3, 4]);
  await until(() => second.last("ack")?.seq === 4);
  hearth.close();
});

test("from now on means from the head at the first opening, also after a break", async () => {
  const { hearth, socket } = await opened();
  hearth.subscribe("conversation:conv_1", {});
  assert.equal("after_seq" in socket.last("subscribe"), false);
  socket.push({ type: "ok", id: socket.last("subscribe").id, resumed: true, head_seq: 9, first_seq: 1 });
  await new Promise((resolve) => setTimeout(resolve, 0));
  socket.drop();
  assert.equal((await reconnected(2)).last("subscribe").after_seq, 9);
  hearth.close();
});

test("a log that no longer reaches back resets, an ended run ends, a missing one fails", async () => {
  const { hearth, socket } = await opened();
  const heard = [];
  const handlers = { afterSeq: 1, onReset: (how) => heard.push(["reset", how.firstSeq]), onEnd: (how) => heard.push([how.reason, how.error?.code]) };
  hearth.subscribe("conversation:conv_1", handlers);
  socket.push({ type: "ok", id: socket.last("subscribe").id, resumed: false, head_seq: 9, first_seq: 5 });
  hearth.subscribe("run:run_1", handlers);
  socket.push({ type: "ok", id: socket.last("subscribe").id, resumed: true, head_seq: 9, first_seq: 1 });
  socket.push({ type: "end", sub: socket.last("subscribe").sub, reason: "complete" });
  hearth.subscribe("run:run_2", handlers);
  socket.push({ type: "error", id: socket.last("subscribe").id, code: "NOT_FOUND", reason: "RESOURCE_NOT_FOUND", message: "" });
  await until(() => heard.length === 3);
  assert.deepEqual(heard.sort(), [["complete", undefined], ["failed", "NOT_FOUND"], ["reset", 5]]);
  socket.drop();
  assert.equal((await reconnected(2)).last("subscribe"), undefined);
  hearth.close();
});

test("an expired token is replaced once, then the refusal is final", async () => {
  const { states, tokens, socket } = await opened();
  socket.push({ type: "closing", code: 4401, reason: "UNAUTHENTICATED", message: "TOKEN_EXPIRED", reconnect: false, retry_after_ms: 0 });
  socket.drop(4401);
  await until(() => FakeSocket.all.length === 2 && FakeSocket.all[1].last("hello"));
  assert.deepEqual(tokens, [false, true]);
  FakeSocket.all[1].drop(4401);
  assert.equal(states.at(-1)[0], "closed");
  assert.equal(states.at(-1)[1].error.code, "UNAUTHENTICATED");
});

test("auth_expiring is answered with a fresh token in band", async () => {
  const { hearth, socket, tokens } = await opened();
  socket.push({ type: "auth_expiring", token_expires: "2026-01-31T12:15:00Z" });
  await until(() => socket.last("auth"));
  assert.equal(socket.last("auth").token, "token-2");
  assert.deepEqual(tokens, [false, true]);
  hearth.close();
});

test("draining waits as long as it is told", async () => {
  const { hearth, states, socket } = await opened();
  socket.push({ type: "closing", code: 4503, reason: "DRAINING", message: "", reconnect: true, retry_after_ms: 7000 });
  socket.drop(4503);
  const [state, detail] = states.at(-1);
  assert.equal(state, "waiting");
  assert.ok(detail.retryInMs >= 7000);
  hearth.close();
});

test("pings are answered, unknown frames ignored, closing rejects what waits", async () => {
  const { hearth, socket } = await opened();
  socket.push({ type: "ping" });
  assert.ok(socket.last("pong"));
  socket.push({ type: "something_new", sub: "s9" });
  const waiting = hearth.call("agent.ListAgents");
  hearth.close();
  await assert.rejects(waiting, { code: "CANCELLED" });
  await assert.rejects(hearth.call("agent.ListAgents"), { code: "UNAVAILABLE" });
});
