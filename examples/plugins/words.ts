// A plug-in in AssemblyScript: the words of a text, each as often as it occurs.
//
// What crosses goes through the memory: a text is where it begins and how many bytes of UTF-8 it has. `alloc` says
// where the host may write one. A text is given back as one number: where it begins in the upper half, how many bytes
// it has in the lower.

export function alloc(size: i32): usize {
  return heap.alloc(size);
}

function given(at: usize, length: i32): string {
  return String.UTF8.decodeUnsafe(at, length);
}

function back(text: string): u64 {
  const bytes = String.UTF8.encode(text);
  return ((changetype<usize>(bytes) as u64) << 32) | bytes.byteLength;
}

// shout(text: str) -> str
export function shout(at: usize, length: i32): u64 {
  return back(given(at, length).toUpperCase() + "!");
}

// counted(text: str) -> str: a line for each word, in the order of their first use.
export function counted(at: usize, length: i32): u64 {
  const words = given(at, length).toLowerCase().split(" ");
  const times = new Map<string, i32>();
  for (let i = 0; i < words.length; i++) {
    if (words[i].length) times.set(words[i], (times.has(words[i]) ? times.get(words[i]) : 0) + 1);
  }
  const keys = times.keys();
  let lines = "";
  for (let i = 0; i < keys.length; i++) lines += keys[i] + " " + times.get(keys[i]).toString() + "\n";
  return back(lines);
}
