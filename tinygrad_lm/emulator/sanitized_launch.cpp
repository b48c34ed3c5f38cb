// One launch in a process of its own, built with a sanitizer: what to launch comes by standard input, and the arrays, each
// in memory of exactly its size, go back by standard output. With no kernel named it only shows that such a process starts.
#include <dlfcn.h>
#include "sanitizers.h"

struct Head {
    int size[6], shared, order;                // blocks and threads, each three numbers
    unsigned seed;
    int arguments, buffers;
};
struct Argument { long long is_array, bytes, floating, buffer; };
struct Buffer { long long bytes, is_array; void* data; };

static void take(void* to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) fprintf(stderr, "the launch is cut off\n"), exit(2);
}
static void give(const void* from, size_t bytes) { fwrite(from, 1, bytes, stdout); }

static void launch(const char* library) {
    sanitizer::Ours ours;
    void* loaded = dlopen(library, RTLD_NOW);
    if (!loaded) fprintf(stderr, "%s\n", dlerror()), exit(2);
    using Launch = int(const int*, int, const long long*, int, int, unsigned, char*, long long*);
    auto* run = reinterpret_cast<Launch*>(dlsym(loaded, "emulator_launch"));

    Head head;
    take(&head, sizeof head);
    auto* arguments = static_cast<Argument*>(calloc(head.arguments + 1, sizeof(Argument)));
    auto* buffers = static_cast<Buffer*>(calloc(head.buffers + 1, sizeof(Buffer)));
    take(arguments, head.arguments * sizeof(Argument));
    for (int i = 0; i < head.buffers; i++) {
        Buffer& b = buffers[i];
        take(&b, 2 * sizeof(long long));
        if (posix_memalign(&b.data, 256, b.bytes)) fprintf(stderr, "no memory for %lld bytes\n", b.bytes), exit(2);
        take(b.data, b.bytes);
        if (b.is_array) fprintf(stderr, "emulator: array %d at 0x%llx\n", i, reinterpret_cast<unsigned long long>(b.data));
    }
    for (int i = 0; i < head.arguments; i++) {                 // where the value stands: the number itself, or the address
        Buffer& b = buffers[arguments[i].buffer];
        arguments[i].buffer = reinterpret_cast<long long>(b.is_array ? &b.data : b.data);
    }
    char text[2048] = {};
    long long counted[3] = {};
    run(head.size, head.shared, &arguments->is_array, head.arguments, head.order, head.seed, text, counted);
    give(text, sizeof text);
    give(counted, sizeof counted);
    for (int i = 0; i < head.buffers; i++)
        if (buffers[i].is_array) give(buffers[i].data, buffers[i].bytes);
    fflush(stdout);
}

int main(int n, char** words) {
    if (n > 1) launch(words[1]);
    _exit(0);                                  // no destructors: nothing orders them after the threads
}
