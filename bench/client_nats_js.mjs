// One run of one row with nats.js over WebSocket. `bench_ws.py` starts it; rows and arguments are those of
// client_nats_ev.py. BENCH_MODULES is the folder whose node_modules has @nats-io, BENCH_URL the server's.

import { createRequire } from "node:module";

const require = createRequire(`${process.env.BENCH_MODULES}/`);
const { wsconnect } = require("@nats-io/nats-core");

const [row, , , ...numbers] = process.argv.slice(2);
const [count, size, window, checked] = numbers.map(Number);
const SUBJECT = "bench.subject";
const nats = await wsconnect({ servers: process.env.BENCH_URL });

// Publish to a subscription of this connection; at most `window` messages are on the way.
function pubsub(count, payload, window) {
  return new Promise((done) => {
    let received = 0, sent = 0, mark = 0;
    const send = (portion) => {
      portion = Math.min(portion, count - sent);
      for (let i = 0; i < portion; i++) nats.publish(SUBJECT, payload);
      sent += portion;
      mark = sent === count ? count : sent - Math.floor(window / 2);
    };
    const sub = nats.subscribe(SUBJECT, {
      callback: () => {
        if (++received !== mark) return;
        if (received === count) {
          sub.unsubscribe();
          done();
        } else send(Math.floor(window / 2));
      },
    });
    send(window);
  });
}

const rows = {
  pubsub,
  async pub(count, payload) {
    for (let i = 0; i < count; i++) nats.publish(SUBJECT, payload);
    await nats.flush();
  },
  async request(count, payload, window) {
    const sub = echo();
    let sent = 0;
    const ask = async () => {
      while (sent < count) {
        sent++;
        await nats.request(SUBJECT, payload, { timeout: 10_000 });
      }
    };
    await Promise.all(Array.from({ length: Math.min(window, count) }, ask));
    sub.unsubscribe();
  },
};

function echo() {
  return nats.subscribe(SUBJECT, { callback: (_, message) => message.respond(message.data) });
}

// Send numbered payloads the way that the row does; return how many came back wrong.
async function check(payloads) {
  const got = [];
  if (row === "request") {
    const sub = echo();
    const asked = payloads.map((payload) => nats.request(SUBJECT, payload, { timeout: 10_000 }));
    for (const answer of await Promise.all(asked)) got.push(answer.string());
    sub.unsubscribe();
  } else {
    const sub = nats.subscribe(SUBJECT, { callback: (_, message) => got.push(message.string()) });
    for (const payload of payloads) nats.publish(SUBJECT, payload);
    await nats.flush();
    for (let i = 0; got.length < payloads.length && i < 5000; i++) {
      await new Promise((later) => setTimeout(later, 1));
    }
    sub.unsubscribe();
  }
  return payloads.filter((payload, i) => payload !== got[i]).length;
}

const payload = new Uint8Array(size).fill(120);
await rows[row](Math.max(1, Math.floor(count / 10)), payload, window); // warm-up
const cpu = process.cpuUsage(), start = process.hrtime.bigint();
await rows[row](count, payload, window);
const ns = Number(process.hrtime.bigint() - start), used = process.cpuUsage(cpu);
const numbered = Array.from({ length: checked }, (_, i) => String(i).padStart(size, "0").slice(-size));
const wrong = await check(numbered);
console.log(JSON.stringify({ ns, cpu_ns: (used.user + used.system) * 1000, wrong }));
await nats.close();
