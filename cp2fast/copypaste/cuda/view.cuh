// A view: its row in the table of views, its pixels, and the rectangle of its paste.
#pragma once

#include "instructions.cuh"

enum { MIRROR_X = 1, MIRROR_Y = 2, TRANSPOSE = 4, JITTER = 8, GREY = 16 };

// A block of source pixels to be loaded into a warp's shared memory.
struct Source {
  const uint8* base;             // the last 16-byte boundary up to the first pixel
  int before, pitch, last;  // bytes between them; bytes of a row; offset of the last boundary before the end

  // Offset in bytes from the base to a row, which may be beyond the block.
  DEVICE int offset(int row) const { return row * pitch + before; }
};

// The 16-byte boundary at or before an address.
DEVICE const uint8* boundary(uint64 address) { return reinterpret_cast<const uint8*>(address / 16 * 16); }

// A row of the table of views (views.py). Fields that are rarely needed are read from memory.
struct View {
  const int4* row;
  const uint8 *origin, *last;  // start of the crop; the last 16-byte boundary before the end of all pixels
  int pitch, height, width;
  uint32 flags;

  DEVICE View(const uint8* pixels, int64 bytes, const int4* views, int n)
      : row(views + 4 * n), last(boundary(reinterpret_cast<uint64>(pixels) + static_cast<uint64>(bytes) - 1)) {
    int4 a = row[0], b = row[1];
    uint64 high = static_cast<uint32>(a.y);
    origin = pixels + (high << 32 | static_cast<uint32>(a.x));
    pitch = a.z, height = a.w, width = b.x, flags = b.y;
  }

  // The factor of a jitter operation.
  DEVICE float factor(int operation) const {
    return __int_as_float(reinterpret_cast<const int*>(row)[6 + operation]);
  }

  // The pixels from (top, left) on.
  DEVICE Source source(int top, int left) const {
    uint64 first = reinterpret_cast<uint64>(origin) + static_cast<uint64>(top) * static_cast<uint64>(pitch) +
                   3 * static_cast<uint64>(left);
    const uint8* base = boundary(first);
    uint64 rest = last - base;
    return {base, static_cast<int>(first % 16), pitch, rest < 0x80000000 ? static_cast<int>(rest) : 0x7FFFFFF0};
  }

  DEVICE float sigma() const { return __int_as_float(row[2].z); }
};

// Bottom and right are exclusive.
struct Rectangle {
  int top, left, bottom, right;

  DEVICE Rectangle transposed() const { return {left, top, right, bottom}; }
  DEVICE bool in(const Rectangle& other) const {
    return other.top <= top && bottom <= other.bottom && other.left <= left && right <= other.right;
  }
  DEVICE bool beside(const Rectangle& other) const {
    return bottom <= other.top || other.bottom <= top || right <= other.left || other.right <= left;
  }
};

DEVICE Rectangle paste_of(const View& view) {
  int top = view.row[2].w;
  int4 rest = view.row[3];
  return {top, rest.x, top + rest.y, rest.x + rest.z};
}
