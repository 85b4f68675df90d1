// The jitter of a view's colours: brightness, contrast, saturation and hue, in the view's order.
#pragma once

#include "resize.cuh"

enum { BRIGHTNESS, CONTRAST, SATURATION, HUE };

// Operation i of the view's jitter.
DEVICE int operation_of(const View& view, int i) { return view.flags >> (8 + 2 * i) & 3; }

// ITU-R BT.601.
DEVICE float luma(float red, float green, float blue) {
  return 0.299f * red + 0.587f * green + 0.114f * blue;
}

// A shift of the hue by a fraction of a turn, as the new hues of red, green and blue. Hues are in
// sixths of a turn, in [-3, 3): red at 0, green at 2, blue at -2.
struct HueShift {
  float red, green, blue;

  DEVICE HueShift(float turns) {
    red = 6.0f * (turns - floorf(turns + 0.5f));
    green = red < 1.0f ? red + 2.0f : red - 4.0f;
    blue = red < -1.0f ? red + 4.0f : red - 2.0f;
  }
};

// Shift the hue, keeping HSV's saturation and value. A channel has its maximum where the hue is
// within 1 of its own, and its minimum beyond 2.
DEVICE void shift_hue(float& red, float& green, float& blue, const HueShift& to) {
  float value = fmaxf(fmaxf(red, green), blue);
  float chroma = value - fminf(fminf(red, green), blue);
  float scale = reciprocal(fmaxf(chroma, 1e-12f));
  float hue = (green - blue) * scale + to.red;
  hue = green == value ? (blue - red) * scale + to.green : hue;
  hue = blue == value ? (red - green) * scale + to.blue : hue;
  // Hue is now in [-4, 4], at most a turn from every channel: of a difference x, the distance in
  // the shorter direction is 3 - | |x| - 3 |.
  red = value - chroma * __saturatef(2.0f - fabsf(fabsf(hue) - 3.0f));
  green = value - chroma * __saturatef(2.0f - fabsf(fabsf(hue - 2.0f) - 3.0f));
  blue = value - chroma * __saturatef(2.0f - fabsf(fabsf(hue + 2.0f) - 3.0f));
}

template <class Adjust>
DEVICE void each_pixel(Colours& colours, Adjust adjust) {
  for (int i = 0; i < 8; ++i)
    adjust(colours.of[0][i / 4][i % 4], colours.of[1][i / 4][i % 4], colours.of[2][i / 4][i % 4]);
}

// Apply the first `count` operations of the jitter; `mean` is the luma for contrast.
DEVICE void jitter(Colours& colours, const View& view, int count, float mean) {
  for (int i = 0; i < count; ++i) {
    int operation = operation_of(view, i);
    float factor = view.factor(operation);
    if (operation == HUE) {
      HueShift to(factor);
      each_pixel(colours, [=](float& r, float& g, float& b) { shift_hue(r, g, b, to); });
    } else if (operation == SATURATION) {
      each_pixel(colours, [=](float& r, float& g, float& b) {
        float base = (1.0f - factor) * luma(r, g, b);
        r = __saturatef(factor * r + base);
        g = __saturatef(factor * g + base);
        b = __saturatef(factor * b + base);
      });
    } else {
      float base = operation == CONTRAST ? (1.0f - factor) * mean : 0.0f;
      each_pixel(colours, [=](float& r, float& g, float& b) {
        r = __saturatef(factor * r + base);
        g = __saturatef(factor * g + base);
        b = __saturatef(factor * b + base);
      });
    }
  }
}
