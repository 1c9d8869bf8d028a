/**
 * Hearth's browser SDK: one WebSocket (`hearth.v1`) for calls and live conversations.
 *
 *   import { connect } from "/hearth.js";
 *
 *   const hearth = connect("/v1/socket", { token: async () => fetchMyJwt() });
 *   const { run } = await hearth.call("agent.StartRun", { agent_id, text: "Hello" });
 *   const following = hearth.subscribe(`conversation:${run.conversation_id}`, {
 *     afterSeq: 0,                                  // 0: the whole log; absent: from now on
 *     onEvent: (event) => console.log(event.seq, event.event, event.data),
 *     onText: (message) => console.log(message.text),   // grows while the agent writes
 *   });
 *   following.close();
 *   hearth.close();
 *
 * The connection is kept up by itself: after a break it reconnects with backoff, gets a fresh token where the old one
 * has expired, and every subscription goes on after the last event it handed out: each event once, in order.
 * One file on purpose: it can be copied to where it is needed.
 * Needs nothing but a WebSocket; where there is no global one, pass `WebSocket` in the options.
 */

const SUBPROTOCOL = "hearth.v1";
const ACK_EVERY = 64;
const ACK_DELAY_MS = 500;
const FIRST_BACKOFF_MS = 250;
const LONGEST_BACKOFF_MS = 10_000;
const SILENCE_SLACK_MS = 10_000;
const RETRIABLE = /\.(Get|List|Search|WhoAmI|Derive|Create|Start|Insert|Resolve|Submit|Cancel|Delete)/;

/** Why a call, a subscription or the connection failed: gRPC `code`, `reason`, `message`, `metadata`. */
export class HearthError extends Error {
  constructor({ code, reason = "", message = "", metadata = {}, field_violations = [], retry_after_ms = null }) {
    super(message || reason || code);
    this.name = "HearthError";
    this.code = code;
    this.reason = reason;
    this.metadata = metadata;
    this.fieldViolations = field_violations;
    this.retryAfterMs = retry_after_ms;
  }
}

/**
 * Opens a connection and keeps it.
 *
 * url: of the socket; relative to the page, http(s) or ws(s).
 * options.token: async ({ refresh }) => JWT. Called at each (re)connect and, with refresh, when the last one expires.
 * options.onState: (state, detail) with "connecting" | "open" | "waiting" (detail.retryInMs) | "closed" (detail.error).
 * options.client: { name, version } for the server's log. options.WebSocket: the constructor to use.
 */
export function connect(url, options) {
  return new Hearth(resolve(url), options);
}

function resolve(url) {
  const absolute = new URL(url, globalThis.location?.href);
  absolute.protocol = absolute.protocol.replace(/^http/, "ws");
  return absolute.href;
}

/** A kept connection; made by `connect`. */
class Hearth {
  #url;
  #options;
  #socket = null;
  #state = "connecting";
  #number = 0;
  #requests = new Map();
  #waiting = [];
  #subscriptions = new Map();
  #names = 0;
  #attempts = 0;
  #retryTimer = null;
  #silenceTimer = null;
  #pingMs = 25_000;
  #closing = null;
  #refreshToken = false;
  #session = "";

  constructor(url, options) {
    this.#url = url;
    this.#options = options;
    this.#connect();
  }

  /** "connecting" | "open" | "waiting" | "closed". */
  get state() {
    return this.#state;
  }

  /** The server's name for the present session, for its log. */
  get session() {
    return this.#session;
  }

  /**
   * Calls a unary RPC, as in `agent.StartRun`; resolves with its result, rejects with HearthError.
   *
   * A call under way when the connection breaks is sent again if it can do no harm (reads, and what a request id makes
   * idempotent), or else rejected with UNAVAILABLE. While there is no connection it waits, at most `timeoutMs`.
   */
  call(method, params = {}, { requestId = newRequestId(), timeoutMs = 10_000 } = {}) {
    const message = { type: "call", method, params, request_id: requestId, timeout_ms: timeoutMs };
    return this.#request(message, { retriable: RETRIABLE.test(method), timeoutMs });
  }

  /**
   * Follows `run:…` or `conversation:…`; returns a Subscription.
   *
   * handlers.afterSeq: where to begin (0 = the start; absent = now).
   * handlers.onEvent(event): { seq, time, run_id, event, data }, each once, in order.
   * handlers.onText(message): { messageId, runId, attempt, text, reasoning } whenever a message in progress grew.
   * handlers.onOpen({ resumed, headSeq, firstSeq }): at each (re)opening.
   * handlers.onReset({ reason, firstSeq }): the log no longer reaches back so far, and the subscription is over: reload.
   * handlers.onEnd({ reason, error }): it is over, as when the run has ended.
   */
  subscribe(topic, handlers = {}) {
    const subscription = new Subscription(`s${++this.#names}`, topic, handlers, {
      send: (message) => this.#send(message),
      remove: (name) => this.#unsubscribe(name),
    });
    this.#subscriptions.set(subscription.name, subscription);
    if (this.#state === "open") this.#open(subscription);
    return subscription;
  }

  /** Ends the connection for good. */
  close() {
    this.#finish(null);
  }

  // Connecting.

  async #connect() {
    this.#setState("connecting");
    this.#closing = null;
    let token;
    try {
      token = await this.#options.token({ refresh: this.#refreshToken });
    } catch (error) {
      if (this.#state === "closed") return;
      if (error instanceof HearthError && error.code === "UNAUTHENTICATED") this.#finish(error);
      else this.#retryLater();
      return;
    }
    if (this.#state === "closed") return;
    const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
    const socket = new Socket(this.#url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => {
      const hello = { type: "hello", id: ++this.#number, token };
      if (this.#options.client) hello.client = this.#options.client;
      socket.send(JSON.stringify(hello));
    };
    socket.onmessage = ({ data }) => this.#socket === socket && this.#receive(JSON.parse(data));
    socket.onerror = () => {};
    socket.onclose = ({ code, reason }) => this.#socket === socket && this.#lost(code, reason);
    this.#listen();
  }

  #welcomed(frame) {
    this.#attempts = 0;
    this.#refreshToken = false;
    this.#pingMs = frame.ping_ms ?? this.#pingMs;
    this.#session = frame.session ?? "";
    this.#setState("open");
    for (const subscription of this.#subscriptions.values()) this.#open(subscription);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const request of waiting) this.#dispatch(request);
  }

  #lost(code, reason) {
    this.#socket = null;
    clearTimeout(this.#silenceTimer);
    const wasOpen = this.#state === "open";
    this.#loseRequests();
    for (const subscription of this.#subscriptions.values()) subscription.lost();
    if (this.#state === "closed") return;
    if (code === 4401 && !this.#refreshToken) {
      this.#refreshToken = true;
      this.#retryLater(wasOpen ? 0 : undefined);
      return;
    }
    if (code >= 4400 && code < 4500) {
      const message = this.#closing?.message || reason || "the server refused the connection";
      this.#finish(new HearthError({ code: code === 4401 ? "UNAUTHENTICATED" : "FAILED_PRECONDITION", reason, message }));
      return;
    }
    this.#retryLater(this.#closing?.retry_after_ms);
  }

  #loseRequests() {
    for (const request of this.#requests.values()) {
      if (request.retriable) this.#waiting.push(request);
      else request.fail(unavailable("the connection broke; whether the call took effect is not known"));
    }
    this.#requests.clear();
  }

  #retryLater(atLeastMs = 0) {
    const ceiling = Math.min(LONGEST_BACKOFF_MS, FIRST_BACKOFF_MS * 2 ** this.#attempts++);
    const retryInMs = Math.round(atLeastMs + ceiling * (0.5 + Math.random() / 2));
    this.#setState("waiting", { retryInMs });
    this.#retryTimer = setTimeout(() => this.#connect(), retryInMs);
  }

  #listen() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      const socket = this.#socket;
      if (!socket) return;
      this.#lost(1006, "silence");
      socket.close();
    }, this.#pingMs * 2 + SILENCE_SLACK_MS);
  }

  #finish(error) {
    if (this.#state === "closed") return;
    clearTimeout(this.#retryTimer);
    clearTimeout(this.#silenceTimer);
    this.#setState("closed", { error });
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    const why = error ?? new HearthError({ code: "CANCELLED", message: "the connection was closed" });
    for (const request of [...this.#requests.values(), ...this.#waiting]) request.fail(why);
    this.#requests.clear();
    this.#waiting = [];
    for (const subscription of this.#subscriptions.values()) subscription.lost();
    this.#subscriptions.clear();
  }

  #setState(state, detail = {}) {
    this.#state = state;
    this.#options.onState?.(state, detail);
  }

  // Requests.

  #request(message, { retriable, timeoutMs }) {
    return new Promise((resolve, reject) => {
      if (this.#state === "closed") {
        reject(unavailable("the connection is closed"));
        return;
      }
      const timer = setTimeout(() => request.fail(deadline()), timeoutMs + 1000);
      const request = {
        message,
        retriable,
        done: false,
        succeed: (value) => settle(() => resolve(value)),
        fail: (error) => settle(() => reject(error)),
      };
      const settle = (outcome) => {
        if (request.done) return;
        request.done = true;
        clearTimeout(timer);
        outcome();
      };
      if (this.#state === "open") this.#dispatch(request);
      else this.#waiting.push(request);
    });
  }

  #dispatch(request) {
    if (request.done) return;
    const id = ++this.#number;
    this.#requests.set(id, request);
    this.#send({ ...request.message, id });
  }

  #send(message) {
    if (this.#state === "open" && this.#socket?.readyState === 1) this.#socket.send(JSON.stringify(message));
  }

  #receive(frame) {
    this.#listen();
    switch (frame.type) {
      case "welcome":
        this.#welcomed(frame);
        break;
      case "ok":
      case "error":
        this.#answer(frame);
        break;
      case "ping":
        this.#send({ type: "pong" });
        break;
      case "auth_expiring":
        this.#refresh();
        break;
      case "closing":
        this.#closing = frame;
        break;
      default:
        this.#push(frame);
    }
  }

  #answer(frame) {
    const request = this.#requests.get(frame.id);
    if (!request) return;
    this.#requests.delete(frame.id);
    if (frame.type === "error") request.fail(new HearthError(frame));
    else request.succeed(request.message.type === "call" ? (frame.result ?? {}) : frame);
  }

  async #refresh() {
    try {
      const token = await this.#options.token({ refresh: true });
      await this.#request({ type: "auth", token }, { retriable: false, timeoutMs: 10_000 });
    } catch {
      // The server closes with 4401 when the old token ends; the reconnect asks for a token again.
    }
  }

  // Subscriptions.

  async #open(subscription) {
    try {
      const answer = await this.#request(subscription.opening(), { retriable: false, timeoutMs: 12_000 });
      if (!answer.resumed) this.#subscriptions.delete(subscription.name);
      subscription.opened(answer);
    } catch (error) {
      if (this.#state !== "open") return;
      if (error.code === "UNAVAILABLE" || error.code === "DEADLINE_EXCEEDED") {
        setTimeout(() => this.#reopen(subscription), error.retryAfterMs ?? 1000);
      } else if (this.#subscriptions.delete(subscription.name)) {
        subscription.over("failed", error);
      }
    }
  }

  #reopen(subscription) {
    const wanted = this.#subscriptions.get(subscription.name) === subscription && !subscription.isOpen;
    if (this.#state === "open" && wanted) this.#open(subscription);
  }

  #unsubscribe(name) {
    if (this.#subscriptions.delete(name) && this.#state === "open") {
      this.#request({ type: "unsubscribe", sub: name }, { retriable: false, timeoutMs: 10_000 }).catch(() => {});
    }
  }

  #push(frame) {
    const subscription = this.#subscriptions.get(frame.sub);
    if (!subscription) return;
    if (frame.type === "end" || frame.type === "reset") this.#subscriptions.delete(frame.sub);
    subscription.take(frame);
  }
}

/** One followed topic; made by `subscribe`. */
class Subscription {
  #handlers;
  #connection;
  #unacked = 0;
  #ackTimer = null;
  #assembler = new MessageAssembler();

  constructor(name, topic, handlers, connection) {
    this.name = name;
    this.topic = topic;
    /** Seq of the last event handed out; undefined before a subscription "from now on" has opened. */
    this.lastSeq = handlers.afterSeq;
    this.isOpen = false;
    this.#handlers = handlers;
    this.#connection = connection;
  }

  /** Stops following. */
  close() {
    clearTimeout(this.#ackTimer);
    this.#connection.remove(this.name);
  }

  /** The request that opens it at its present place. */
  opening() {
    const message = { type: "subscribe", sub: this.name, topic: this.topic };
    if (this.lastSeq !== undefined) message.after_seq = this.lastSeq;
    return message;
  }

  opened({ resumed, head_seq: headSeq, first_seq: firstSeq }) {
    if (!resumed) {
      this.#handlers.onReset?.({ reason: "log_truncated", headSeq, firstSeq });
      return;
    }
    this.isOpen = true;
    this.lastSeq ??= headSeq;
    this.#handlers.onOpen?.({ resumed, headSeq, firstSeq });
  }

  lost() {
    this.isOpen = false;
    this.#unacked = 0;
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
  }

  over(reason, error) {
    this.lost();
    this.#handlers.onEnd?.({ reason, error: error ?? null });
  }

  take(frame) {
    switch (frame.type) {
      case "event":
        this.#event(frame);
        break;
      case "delta":
      case "snapshot":
        this.#grow(frame);
        break;
      case "checkpoint":
        this.#handlers.onCheckpoint?.(frame);
        break;
      case "reset":
        this.lost();
        this.#handlers.onReset?.({ reason: frame.reason });
        break;
      case "end":
        this.over(frame.reason, frame.error ? new HearthError(frame.error) : null);
    }
  }

  #event(frame) {
    if (this.lastSeq !== undefined && frame.seq <= this.lastSeq) return;
    this.lastSeq = frame.seq;
    this.#assembler.event(frame);
    this.#handlers.onEvent?.(frame);
    this.#ack();
  }

  #grow(frame) {
    const message = this.#assembler.take(frame);
    if (message) this.#handlers.onText?.(message);
  }

  #ack() {
    this.#unacked += 1;
    if (this.#unacked >= ACK_EVERY) this.#sendAck();
    else this.#ackTimer ??= setTimeout(() => this.#sendAck(), ACK_DELAY_MS);
  }

  #sendAck() {
    clearTimeout(this.#ackTimer);
    this.#ackTimer = null;
    this.#unacked = 0;
    this.#connection.send({ type: "ack", sub: this.name, seq: this.lastSeq });
  }
}

/**
 * Builds the text of messages in progress from deltas and snapshots.
 *
 * A delta may come twice, or overlap, or leave a gap (then the text waits for a snapshot or the completed message); a higher
 * attempt starts the message again. Offsets count Unicode code points, not UTF-16 units.
 */
export class MessageAssembler {
  #messages = new Map();
  #done = new Set();

  /** The grown message, or null if the frame brought nothing new. */
  take(frame) {
    if (this.#done.has(frame.message_id)) return null;
    const message = this.#message(frame);
    if (!message) return null;
    const part = message.parts[frame.kind] ?? (message.parts[frame.kind] = { text: "", length: 0 });
    if (frame.type === "snapshot") {
      if (frame.text === part.text) return null;
      part.text = frame.text;
      part.length = codePoints(frame.text);
    } else if (!append(part, frame)) {
      return null;
    }
    return {
      messageId: frame.message_id,
      runId: message.runId,
      attempt: message.attempt,
      text: message.parts.text?.text ?? "",
      reasoning: message.parts.reasoning?.text ?? "",
    };
  }

  /** Notes what an event says about messages in progress: complete ones take no more text. */
  event({ event, data }) {
    if (event === "message_completed" && data?.message) {
      this.#messages.delete(data.message.id);
      this.#done.add(data.message.id);
      if (this.#done.size > 256) this.#done.delete(this.#done.values().next().value);
    } else if (event === "step_restarted" && data) {
      this.#messages.delete(data.message_id);
    } else if (/^run_(succeeded|failed|cancelled)$/.test(event)) {
      this.#messages.clear();
    }
  }

  #message(frame) {
    const known = this.#messages.get(frame.message_id);
    if (known && frame.attempt < known.attempt) return null;
    if (known && frame.attempt === known.attempt) return known;
    const fresh = { attempt: frame.attempt, runId: frame.run_id, parts: {} };
    this.#messages.set(frame.message_id, fresh);
    return fresh;
  }
}

function append(part, { offset, text }) {
  if (offset > part.length) return false;
  const fresh = offset === part.length ? text : Array.from(text).slice(part.length - offset).join("");
  if (fresh === "") return false;
  part.text += fresh;
  part.length += codePoints(fresh);
  return true;
}

function codePoints(text) {
  let count = 0;
  for (const _ of text) count += 1;
  return count;
}

function unavailable(message) {
  return new HearthError({ code: "UNAVAILABLE", reason: "DEPENDENCY_UNAVAILABLE", message });
}

function deadline() {
  return new HearthError({ code: "DEADLINE_EXCEEDED", reason: "DEADLINE_EXCEEDED", message: "no answer in time" });
}

/** A UUID for `requestId`: the same id with the same call is the same deed. Works on plain http too. */
export function newRequestId() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
