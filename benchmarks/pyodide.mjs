// A program in pyodide, in this process: node pyodide.mjs PACKAGE WHAT CALLS SECONDS PROGRAM
//   first   answers once and ends
//   calls   prints the samples of runs in one interpreter as JSON, in microseconds
//   fresh   the same with a new interpreter for each
//   hold    answers once, prints a line, and waits to be ended
import { pathToFileURL } from "node:url";
import { join } from "node:path";

const [from, what, calls, seconds, program] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(join(from, "pyodide.mjs")));

const once = (python) => {
  const globals = python.globals.get("dict")();
  globals.set("input", python.toPy([1, 2, 3]));
  python.runPython(program, { globals });
  const result = globals.get("result");
  globals.destroy();
  return result;
};

if (what === "first" || what === "hold") {
  console.log(once(await loadPyodide()));
  if (what === "hold") process.stdin.resume();
} else {
  const python = await loadPyodide();
  const run = what === "fresh" ? async () => once(await loadPyodide()) : async () => once(python);
  await run();
  const samples = [];
  const end = performance.now() + seconds * 1000;
  while (samples.length < calls && (samples.length < 2 || performance.now() < end)) {
    const start = performance.now();
    await run();
    samples.push((performance.now() - start) * 1000);
  }
  console.log(JSON.stringify(samples));
}
