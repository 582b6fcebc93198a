// A program that does what its first argument says, for the tests of WASI. Build it with examples/plugins/build.py.
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char *action;

static int is(const char *name) { return strcmp(action, name) == 0; }

// 0 if the last call succeeded, else what went wrong.
static int done(int failed) {
  if (failed) printf("%s\n", strerror(errno));
  return failed ? 1 : 0;
}

static int copy(FILE *from) {
  char bytes[4096];
  size_t count;
  if (!from) return done(1);
  while ((count = fread(bytes, 1, sizeof bytes, from))) fwrite(bytes, 1, count, stdout);
  return done(ferror(from));
}

static int put(const char *path, const char *mode, const char *text) {
  FILE *file = fopen(path, mode);
  if (!file || fputs(text, file) < 0) return done(1);
  return done(fclose(file));
}

static int list(const char *path) {
  DIR *folder = opendir(path);
  if (!folder) return done(1);
  for (struct dirent *entry; (entry = readdir(folder));) printf("%s\n", entry->d_name);
  return 0;
}

static int look(const char *path) {
  struct stat seen;
  if (stat(path, &seen)) return done(1);
  printf("%s of %lld bytes\n", S_ISDIR(seen.st_mode) ? "folder" : "file", (long long)seen.st_size);
  return 0;
}

static int flood(int descriptor) {
  static char bytes[65536];
  for (;;) if (write(descriptor, bytes, sizeof bytes) < 0) return done(1);
}

static int open_many(const char *path) {
  for (int count = 0;; count++) {
    if (fopen(path, "r")) continue;
    printf("%d: ", count);
    return done(1);
  }
}

int main(int count, char **arguments) {
  if (count < 2) return fprintf(stderr, "usage: tool ACTION ...\n"), 2;
  action = arguments[1];
  const char *first = count > 2 ? arguments[2] : "", *second = count > 3 ? arguments[3] : "";
  if (is("echo")) { for (int i = 2; i < count; i++) printf("%s\n", arguments[i]); return 0; }
  if (is("cat")) return copy(*first ? fopen(first, "r") : stdin);
  if (is("env")) return printf("%s\n", getenv(first) ? getenv(first) : "(none)"), 0;
  if (is("time")) return printf("%lld\n", (long long)time(0)), 0;
  if (is("sleep")) return usleep(atoi(first) * 1000u), puts("slept"), 0;
  if (is("random")) { unsigned long long n; getentropy(&n, sizeof n); return printf("%016llx\n", n), 0; }
  if (is("abort")) { fprintf(stderr, "about to give up\n"); abort(); }
  if (is("exit")) exit(atoi(first));
  if (is("flood")) return flood(1);
  if (is("fill")) { FILE *file = fopen(first, "w"); return file ? flood(fileno(file)) : done(1); }
  if (is("write")) return put(first, "w", second);
  if (is("append")) return put(first, "a", second);
  if (is("truncate")) return done(truncate(first, atoll(second)));
  if (is("remove")) return done(remove(first));
  if (is("mkdir")) return done(mkdir(first, 0777));
  if (is("rename")) return done(rename(first, second));
  if (is("symlink")) return done(symlink(first, second));
  if (is("ls")) return list(first);
  if (is("stat")) return look(first);
  if (is("many")) return open_many(first);
  return 3;
}
