// Run the CUDA kernels on the CPU: a batch from stdin, the composed pairs to stdout.

#include "gpu_on_cpu.h"

#define WITH_PLAN
#define WITH_MEAN_LUMA
#define WITH_COMPOSE
#include "copy_paste.cu"

namespace {

constexpr int PLAN_BLOCKS = 6;  // three for each list
constexpr int BLOCKS = 3;       // that take items in turn

struct Header {
  int64_t bytes;  // of pixels
  int samples, size, parts, most_items, kind, element, skip;  // skip: bytes in memory before the pixels
  uint64_t seed;
  float scale[3], shift[3];
};

void read(void* to, size_t size) {
  if (std::fread(to, 1, size, stdin) != size) std::exit(4);
}

// Whole units of 16 bytes, as the GPU's memory comes in; not one more, for a sanitizer to see.
template <class T>
T* allocate(size_t bytes) {
  void* memory = std::aligned_alloc(16, (bytes + 15) / 16 * 16);
  std::memset(memory, -1, (bytes + 15) / 16 * 16);
  return static_cast<T*>(memory);
}

}  // namespace

int main() {
  Header header;
  read(&header, sizeof header);
  size_t samples = header.samples, area = static_cast<size_t>(header.size) * header.size;
  auto* memory_of_pixels = allocate<uint8>(header.skip + header.bytes);
  auto* pixels = memory_of_pixels + header.skip;
  auto* views = allocate<int4>(samples * 4 * 64);
  int layers = header.samples * 4, size = header.size, parts = header.parts;
  int length = 1 + layers * header.most_items + BLOCKS;
  auto* lists = allocate<int4>(2 * length * sizeof(int4));
  auto* partial = allocate<float>(static_cast<size_t>(layers) * parts * sizeof(float));
  size_t image = samples * area * 3 * header.element, mask = samples * area;
  uint8* outputs[4] = {allocate<uint8>(image), allocate<uint8>(image), allocate<uint8>(mask), allocate<uint8>(mask)};
  read(pixels, header.bytes);
  read(views, samples * 4 * 64);
  gpu::random_state = header.seed;
  gpu::launch(PLAN_BLOCKS, PLANNERS, plan, views, layers, size, lists, length, BLOCKS);
  gpu::launch(BLOCKS, THREADS, mean_luma, pixels, header.bytes, views, lists, partial, parts, size);
  gpu::launch(BLOCKS, THREADS, compose, pixels, header.bytes, views, lists, length, partial, parts, size, header.kind,
              outputs[0], outputs[1], outputs[2], outputs[3], header.scale[0], header.scale[1], header.scale[2],
              header.shift[0], header.shift[1], header.shift[2]);
  for (int i = 0; i < 4; ++i) std::fwrite(outputs[i], 1, i < 2 ? image : mask, stdout);
  for (void* memory : std::initializer_list<void*>{memory_of_pixels, views, lists, partial}) std::free(memory);
  for (uint8* output : outputs) std::free(output);
}
