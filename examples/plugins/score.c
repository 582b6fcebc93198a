// A plug-in in C: how well does a text match words that are looked for?
//
// What crosses goes through the memory: a text is where it begins and how many bytes it has. `alloc` says where the
// host may write one. Nothing is freed: each call has a memory of its own.

typedef unsigned char byte;
typedef unsigned int size;

extern byte __heap_base;
static byte *next = &__heap_base;

__attribute__((export_name("alloc")))
byte *alloc(size bytes) {
  byte *found = next;
  next += (bytes + 15) & ~15u;
  size pages = __builtin_wasm_memory_size(0);
  size needed = ((size)next + 65535) / 65536;
  if (needed > pages && __builtin_wasm_memory_grow(0, needed - pages) == (size)-1) __builtin_trap();
  return found;
}

static byte lower(byte letter) { return letter >= 'A' && letter <= 'Z' ? letter + 32 : letter; }

static int matches(const byte *text, const byte *word, size length) {
  for (size i = 0; i < length; i++)
    if (lower(text[i]) != lower(word[i])) return 0;
  return 1;
}

static size count(const byte *text, size text_length, const byte *word, size word_length) {
  size found = 0;
  for (size at = 0; at + word_length <= text_length; at++) found += matches(text + at, word, word_length);
  return found;
}

// score(text: str, words: str) -> float: how often the words occur, in a thousand bytes.
__attribute__((export_name("score")))
double score(const byte *text, size text_length, const byte *words, size words_length) {
  size found = 0, start = 0;
  for (size at = 0; at <= words_length; at++) {
    if (at < words_length && words[at] != ' ') continue;
    if (at > start) found += count(text, text_length, words + start, at - start);
    start = at + 1;
  }
  return text_length ? 1000.0 * found / text_length : 0.0;
}

// smoothed(values: NDArray[float64], weight: float) -> NDArray[float64]: each nearer to those before it.
// An array is given back as one number: where it begins in the upper half, how many it has in the lower.
__attribute__((export_name("smoothed")))
unsigned long long smoothed(const double *values, size length, double weight) {
  double *result = (double *)alloc(length * sizeof(double)), last = length ? values[0] : 0.0;
  for (size i = 0; i < length; i++) result[i] = last += weight * (values[i] - last);
  return (unsigned long long)(size)result << 32 | length;
}

// share(total: int, parts: int) -> int: which forgets that there may be no parts.
static int __attribute__((noinline)) divided(int total, int parts) { return total / parts; }

__attribute__((export_name("share")))
int share(int total, int parts) { return divided(total, parts) + (total < 0); }
