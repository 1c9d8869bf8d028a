// Follows a conversation with hearth.js against a real gateway; prints one JSON line for each thing that happens.

import { createHash, randomBytes } from "node:crypto";
import { request } from "node:http";
import { pathToFileURL } from "node:url";

const { connect } = await import(pathToFileURL(process.env.HEARTH_JS));
const { GATEWAY, TOKEN, TOPIC } = process.env;
const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

/** Enough of a WebSocket client for the test: node 20 has none of its own. */
class Socket {
  readyState = 0;

  constructor(url, protocols) {
    const key = randomBytes(16).toString("base64");
    const headers = {
      Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key,
      "Sec-WebSocket-Protocol": protocols.join(", "), Origin: GATEWAY,
    };
    const dial = request(url.replace(/^ws/, "http"), { headers });
    dial.on("error", () => this.#closed(1006, ""));
    dial.on("response", () => this.#closed(1006, ""));
    dial.on("upgrade", (answer, socket, head) => this.#open(answer, socket, head, key));
    dial.end();
  }

  send(text) {
    const payload = Buffer.from(text);
    const mask = randomBytes(4);
    const header = payload.length < 126 ? [0x81, 0x80 | payload.length] : [0x81, 0x80 | 126, payload.length >> 8, payload.length & 255];
    this.socket.write(Buffer.concat([Buffer.from(header), mask, payload.map((byte, index) => byte ^ mask[index % 4])]));
  }

  close() {
    this.readyState = 3;
    this.socket?.destroy();
  }

  #open(answer, socket, head, key) {
    const wanted = createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
    if (answer.headers["sec-websocket-accept"] !== wanted) throw new Error("not a WebSocket");
    this.socket = socket;
    this.buffer = head;
    this.readyState = 1;
    socket.on("data", (data) => {
      this.buffer = Buffer.concat([this.buffer, data]);
      this.#read();
    });
    socket.on("close", () => this.#closed(1006, ""));
    socket.on("error", () => {});
    this.onopen();
    this.#read();
  }

  #read() {
    for (;;) {
      if (this.buffer.length < 2) return;
      let length = this.buffer[1];
      let start = 2;
      if (length === 126) [length, start] = [this.buffer.length < 4 ? Infinity : this.buffer.readUInt16BE(2), 4];
      else if (length === 127) [length, start] = [this.buffer.length < 10 ? Infinity : Number(this.buffer.readBigUInt64BE(2)), 10];
      if (this.buffer.length < start + length) return;
      const payload = this.buffer.subarray(start, start + length);
      const opcode = this.buffer[0] & 15;
      this.buffer = this.buffer.subarray(start + length);
      if (opcode === 1) this.onmessage({ data: payload.toString() });
      else if (opcode === 8) this.#closed(payload.readUInt16BE(0), payload.subarray(2).toString());
    }
  }

  #closed(code, reason) {
    if (this.readyState === 3) return;
    this.readyState = 3;
    this.socket?.destroy();
    this.onclose({ code, reason });
  }
}

const hearth = connect(`${GATEWAY}/v1/socket`, { token: async () => TOKEN, WebSocket: Socket, onState: (state) => print({ state }) });
hearth.subscribe(TOPIC, {
  afterSeq: 0,
  onEvent: ({ seq, event }) => print({ seq, event }),
  onText: ({ text }) => print({ text }),
  onReset: (how) => print({ reset: how }),
  onEnd: (how) => print({ end: how }),
});
print({ me: (await hearth.call("user.WhoAmI")).subject });
process.stdin.on("data", () => {
  hearth.close();
  // Nothing of the SDK keeps the process alive.
  process.stdin.destroy();
});
