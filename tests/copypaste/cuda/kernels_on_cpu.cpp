// Run the CUDA kernels on the CPU: a batch from stdin, the composed pairs to stdout.

#include "gpu_on_cpu.h"

#include "copy_paste.cu"

namespace {

struct Header {
  int64_t bytes;  // of pixels
  int samples, size, parts, tiles, kind, element;
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
  auto* pixels = allocate<uint8>(header.bytes);
  auto* views = allocate<int4>(samples * 4 * 64);
  auto* partial = allocate<float>(samples * 4 * header.parts * sizeof(float));
  size_t image = samples * area * 3 * header.element, mask = samples * area;
  uint8* outputs[4] = {allocate<uint8>(image), allocate<uint8>(image), allocate<uint8>(mask), allocate<uint8>(mask)};
  read(pixels, header.bytes);
  read(views, samples * 4 * 64);
  gpu::random_state = header.seed;
  int layers = header.samples * 4;
  gpu::launch(layers * header.parts, THREADS, mean_luma, pixels, header.bytes, views, partial, header.size, header.parts);
  gpu::launch(layers * header.tiles, THREADS, compose, pixels, header.bytes, views, partial, header.size, header.parts,
              header.tiles, header.kind, outputs[0], outputs[1], outputs[2], outputs[3], header.scale[0],
              header.scale[1], header.scale[2], header.shift[0], header.shift[1], header.shift[2]);
  for (int i = 0; i < 4; ++i) std::fwrite(outputs[i], 1, i < 2 ? image : mask, stdout);
  for (void* memory : {static_cast<void*>(pixels), static_cast<void*>(views), static_cast<void*>(partial)}) std::free(memory);
  for (uint8* output : outputs) std::free(output);
}
