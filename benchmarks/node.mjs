// One add in a bare worker thread, by postMessage: node node.mjs WORKERS TOGETHER CALLS SECONDS
// Prints the samples as JSON: microseconds per call.
import { Worker, isMainThread, parentPort } from "node:worker_threads";
import { fileURLToPath } from "node:url";

if (isMainThread) {
  const [workers, together, calls, seconds] = process.argv.slice(2).map(Number);
  const links = await Promise.all(Array.from({ length: workers }, link));
  await sample(calls / 10, seconds / 5);
  console.log(JSON.stringify(await sample(calls, seconds)));
  process.exit(0);

  async function sample(count, limit) {
    const samples = [];
    const end = performance.now() + limit * 1000;
    while (samples.length < count && performance.now() < end) {
      const start = performance.now();
      await Promise.all(Array.from({ length: together }, (_, i) => links[i % workers](1, 2)));
      samples.push(((performance.now() - start) * 1000) / together);
    }
    return samples;
  }
} else {
  parentPort.on("message", ({ id, a, b }) => parentPort.postMessage({ id, sum: a + b }));
  parentPort.postMessage("ready");
}

// A started worker, as a function that sends one call and promises its answer.
async function link() {
  const worker = new Worker(fileURLToPath(import.meta.url));
  await new Promise((ready) => worker.once("message", ready));
  const pending = new Map();
  let last = 0;
  worker.on("message", ({ id, sum }) => {
    pending.get(id)(sum);
    pending.delete(id);
  });
  return (a, b) =>
    new Promise((resolve) => {
      pending.set(++last, resolve);
      worker.postMessage({ id: last, a, b });
    });
}
