// A stack of cards in a bare worker thread: node engine.mjs VERB CARDS TOGETHER CALLS SECONDS
// VERB is ping, or stack:shuffle with the seed 42. Prints the samples as JSON: microseconds per action.
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";
import { fileURLToPath } from "node:url";

if (isMainThread) {
  const [verb, ...numbers] = process.argv.slice(2);
  const [cards, together, calls, seconds] = numbers.map(Number);
  const dispatch = await engine(cards);
  await sample(calls / 10, seconds / 5);
  console.log(JSON.stringify(await sample(calls, seconds)));
  process.exit(0);

  async function sample(count, limit) {
    const samples = [];
    const end = performance.now() + limit * 1000;
    while (samples.length < count && performance.now() < end) {
      const start = performance.now();
      await Promise.all(Array.from({ length: together }, () => dispatch(verb, { seed: 42 })));
      samples.push(((performance.now() - start) * 1000) / together);
    }
    return samples;
  }
} else {
  const stack = Array.from({ length: workerData }, (_, i) => ({ id: `card-${i}`, label: `Card ${i}` }));
  const actions = { ping: () => null, "stack:shuffle": ({ seed }) => shuffle(stack, seed) };
  parentPort.on("message", ({ id, type, payload }) => parentPort.postMessage({ id, result: actions[type](payload) }));
  parentPort.postMessage("ready");
}

// A started worker, as a function that sends one action and promises its result.
async function engine(cards) {
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: cards });
  await new Promise((ready) => worker.once("message", ready));
  const pending = new Map();
  let last = 0;
  worker.on("message", ({ id, result }) => {
    pending.get(id)(result);
    pending.delete(id);
  });
  return (type, payload) =>
    new Promise((resolve) => {
      pending.set(++last, resolve);
      worker.postMessage({ id: last, type, payload });
    });
}

// Fisher and Yates from the end, with mulberry32.
function shuffle(items, seed) {
  for (let left = items.length; left > 1; left--) {
    seed = (seed + 0x6d2b79f5) | 0;
    let bits = Math.imul(seed ^ (seed >>> 15), seed | 1);
    bits ^= bits + Math.imul(bits ^ (bits >>> 7), bits | 61);
    const other = Math.floor((((bits ^ (bits >>> 14)) >>> 0) / 4294967296) * left);
    [items[left - 1], items[other]] = [items[other], items[left - 1]];
  }
  return null;
}
