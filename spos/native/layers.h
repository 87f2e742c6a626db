// Layers on images whose channels lie together (N, H, W, C): what is done to rows of pixels.
#pragma once

#include "matrix.h"

namespace spos {

enum Act : i64 { kNone, kRelu, kRelu6, kHardSwish };

template <i64 A>
inline vec activate(vec x) {
  const vec zero = {}, six = spread(6.f);
  if (A == kRelu) return larger(x, zero);
  if (A == kRelu6) return smaller(larger(x, zero), six);
  if (A == kHardSwish) return x * (smaller(larger(x + 3.f, zero), six) * (1.f / 6.f));
  return x;
}

// The gradient of an activation at x, times `of`.
template <i64 A>
inline vec pass_back(vec x, vec of) {
  const vec zero = {};
  if (A == kRelu) return x > zero ? of : zero;
  if (A == kRelu6) return x > zero ? (x < spread(6.f) ? of : zero) : zero;
  if (A == kHardSwish) {
    const vec inside = of * (x * (1.f / 3.f) + 0.5f);
    return x > spread(-3.f) ? (x < spread(3.f) ? inside : of) : zero;
  }
  return of;
}

template <class Run>
inline void with_act(i64 act, Run run) {
  switch (act) {
    case kRelu: return run(std::integral_constant<i64, kRelu>());
    case kRelu6: return run(std::integral_constant<i64, kRelu6>());
    case kHardSwish: return run(std::integral_constant<i64, kHardSwish>());
    default: return run(std::integral_constant<i64, kNone>());
  }
}

// to = act(scale * from + shift), `width` channels in LANES.
inline void normalise(float* to, i64 row_to, const float* from, i64 row_from, i64 rows, i64 width, const float* scale,
                      const float* shift, i64 act) {
  with_act(act, [&](auto a) {
    for (i64 r = 0; r < rows; ++r, to += row_to, from += row_from)
      for (i64 c = 0; c < width; c += VL)
        store(to + c, activate<a.value>(load(from + c) * load(scale + c) + load(shift + c)));
  });
}

template <i64 A, int W>
inline void normalise_back_columns(float* to, i64 row_to, const float* of, i64 row_of, const float* z, i64 row_z,
                                   i64 rows, const float* scale, const float* shift, float* first, float* second) {
  vec s[W], t[W], sums[W], products[W];
  for (int i = 0; i < W; ++i) s[i] = load(scale + i * VL), t[i] = load(shift + i * VL), sums[i] = products[i] = vec{};
  for (i64 r = 0; r < rows; ++r, to += row_to, of += row_of, z += row_z)
#pragma GCC unroll 4
    for (int i = 0; i < W; ++i) {
      const vec at = load(z + i * VL);
      const vec result = pass_back<A>(at * s[i] + t[i], load(of + i * VL));
      store(to + i * VL, result);
      sums[i] += result;
      products[i] += result * at;
    }
  for (int i = 0; i < W; ++i) store(first + i * VL, sums[i]), store(second + i * VL, products[i]);
}

// to = of * gradient of act at scale * z + shift; the sums of the result and of the result times z are set.
inline void normalise_back(float* to, i64 row_to, const float* of, i64 row_of, const float* z, i64 row_z, i64 rows,
                           i64 width, const float* scale, const float* shift, i64 act, float* sums) {
  with_act(act, [&](auto a) {
    i64 c = 0;
    for (; c + 4 * VL <= width; c += 4 * VL)
      normalise_back_columns<a.value, 4>(to + c, row_to, of + c, row_of, z + c, row_z, rows, scale + c, shift + c,
                                         sums + c, sums + width + c);
    for (; c < width; c += VL)
      normalise_back_columns<a.value, 1>(to + c, row_to, of + c, row_of, z + c, row_z, rows, scale + c, shift + c,
                                         sums + c, sums + width + c);
  });
}

template <int W>
inline void moments_columns(const float* z, i64 row, i64 rows, float* mean, float* squares) {
  vec totals[W] = {}, sums[W] = {};
  for (i64 r = 0; r < rows; ++r)
    for (int i = 0; i < W; ++i) totals[i] += load(z + r * row + i * VL);
  for (int i = 0; i < W; ++i) totals[i] = totals[i] / static_cast<float>(rows);
  for (i64 r = 0; r < rows; ++r)
    for (int i = 0; i < W; ++i) {
      const vec off = load(z + r * row + i * VL) - totals[i];
      sums[i] += off * off;
    }
  for (int i = 0; i < W; ++i) store(mean + i * VL, totals[i]), store(squares + i * VL, sums[i]);
}

// Means of the rows and sums of the squares of what differs from them.
inline void moments(const float* z, i64 row, i64 rows, i64 width, float* mean, float* squares) {
  i64 c = 0;
  for (; c + 4 * VL <= width; c += 4 * VL) moments_columns<4>(z + c, row, rows, mean + c, squares + c);
  for (; c < width; c += VL) moments_columns<1>(z + c, row, rows, mean + c, squares + c);
}

// to = slope_a * a + slope_z * z + offset: the gradient in front of BatchNorm.
inline void combine(float* to, i64 row_to, const float* a, const float* z, i64 row, i64 rows, i64 width,
                    const float* slope_a, const float* slope_z, const float* offset) {
  for (i64 r = 0; r < rows; ++r, to += row_to, a += row, z += row)
    for (i64 c = 0; c < width; c += VL)
      store(to + c, load(slope_a + c) * load(a + c) + (load(slope_z + c) * load(z + c) + load(offset + c)));
}

inline void add_rows(float* to, i64 row_to, const float* from, i64 row_from, i64 rows, i64 width, bool adds) {
  for (i64 r = 0; r < rows; ++r, to += row_to, from += row_from)
    for (i64 c = 0; c < width; c += VL) store(to + c, adds ? load(to + c) + load(from + c) : load(from + c));
}

// Exactly `channels` floats of each row, which need not be LANES.
inline void copy_rows(float* to, i64 row_to, const float* from, i64 row_from, i64 rows, i64 channels) {
  for (i64 r = 0; r < rows; ++r) std::memcpy(to + r * row_to, from + r * row_from, channels * sizeof(float));
}

inline void fill_rows(float* to, i64 row, i64 rows, i64 width) {
  for (i64 r = 0; r < rows; ++r) std::memset(to + r * row, 0, width * sizeof(float));
}

// The geometry of a convolution of one image; `pad` on all sides.
struct Window {
  i64 height, width, out_height, out_width, kernel, stride, pad;

  i64 padded_height() const { return height + 2 * pad; }
  i64 padded_width() const { return width + 2 * pad; }
};

// Zeros around an image (height x width rows of `channels`) in its padded place.
inline void clear_border(float* to, i64 height, i64 width, i64 pad, i64 channels) {
  const i64 row = (width + 2 * pad) * channels;
  std::memset(to, 0, pad * row * sizeof(float));
  std::memset(to + (height + pad) * row, 0, pad * row * sizeof(float));
  for (i64 y = pad; y < height + pad; ++y) {
    std::memset(to + y * row, 0, pad * channels * sizeof(float));
    std::memset(to + y * row + (pad + width) * channels, 0, pad * channels * sizeof(float));
  }
}

template <int K, int W>
inline void depthwise_pixels(const float* x, i64 row_x, i64 step, i64 channels, const float* weight, i64 kernel,
                             float* z, i64 row_z) {
  vec sums[W];
#pragma GCC unroll 8
  for (int i = 0; i < W; ++i) sums[i] = vec{};
  const i64 size = K ? K : kernel;
  for (i64 ky = 0; ky < size; ++ky, x += row_x)
#pragma GCC unroll 8
    for (i64 kx = 0; kx < size; ++kx, weight += channels) {
      const vec tap = load(weight);
#pragma GCC unroll 8
      for (int i = 0; i < W; ++i) sums[i] += tap * load(x + (kx + i * step) * channels);
    }
#pragma GCC unroll 8
  for (int i = 0; i < W; ++i) store(z + i * row_z, sums[i]);
}

// The same for a stride of 1: every pixel is loaded once for all taps of a line that meet it.
template <int K, int W>
inline void depthwise_line(const float* x, i64 row_x, i64 channels, const float* weight, float* z, i64 row_z) {
  vec sums[W];
#pragma GCC unroll 8
  for (int i = 0; i < W; ++i) sums[i] = vec{};
  for (int ky = 0; ky < K; ++ky, x += row_x, weight += K * channels) {
    vec taps[K];
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) taps[k] = load(weight + k * channels);
#pragma GCC unroll 16
    for (int p = 0; p < W + K - 1; ++p) {
      const vec at = load(x + p * channels);
#pragma GCC unroll 8
      for (int k = 0; k < K; ++k)
        if (p - k >= 0 && p - k < W) sums[p - k] += taps[k] * at;
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < W; ++i) store(z + i * row_z, sums[i]);
}

// Depthwise convolution of a padded image; `weight` has a row of channels for each tap.
template <int K>
inline void depthwise_of(const Window& w, i64 channels, const float* x, const float* weight, float* z, i64 row_z) {
  const i64 row_x = w.padded_width() * channels;
  for (i64 y = 0; y < w.out_height; ++y)
    for (i64 c = 0; c < channels; c += VL) {
      const float* from = x + y * w.stride * row_x + c;
      float* to = z + y * w.out_width * row_z + c;
      i64 i = 0;
      const i64 step = w.stride * channels;
      if constexpr (K > 1 && VL == 16) {  // as many registers as it takes
        for (; w.stride == 1 && i + 8 <= w.out_width; i += 8)
          depthwise_line<K, 8>(from + i * step, row_x, channels, weight + c, to + i * row_z, row_z);
        for (; w.stride == 1 && i + 4 <= w.out_width; i += 4)
          depthwise_line<K, 4>(from + i * step, row_x, channels, weight + c, to + i * row_z, row_z);
      }
      for (; i + 8 <= w.out_width; i += 8)
        depthwise_pixels<K, 8>(from + i * step, row_x, w.stride, channels, weight + c, w.kernel, to + i * row_z, row_z);
      for (; i + 4 <= w.out_width; i += 4)
        depthwise_pixels<K, 4>(from + i * step, row_x, w.stride, channels, weight + c, w.kernel, to + i * row_z, row_z);
      for (; i < w.out_width; ++i)
        depthwise_pixels<K, 1>(from + i * step, row_x, w.stride, channels, weight + c, w.kernel, to + i * row_z, row_z);
    }
}

inline void depthwise(const Window& w, i64 channels, const float* x, const float* weight, float* z, i64 row_z) {
  switch (w.kernel) {
    case 1: return depthwise_of<1>(w, channels, x, weight, z, row_z);
    case 3: return depthwise_of<3>(w, channels, x, weight, z, row_z);
    case 5: return depthwise_of<5>(w, channels, x, weight, z, row_z);
    case 7: return depthwise_of<7>(w, channels, x, weight, z, row_z);
    default: return depthwise_of<0>(w, channels, x, weight, z, row_z);
  }
}

// The gradient of a depthwise convolution with a stride, to a padded image.
inline void depthwise_back(const Window& w, i64 channels, const float* of, const float* weight, float* x) {
  const i64 row_x = w.padded_width() * channels;
  std::memset(x, 0, w.padded_height() * row_x * sizeof(float));
  for (i64 y = 0; y < w.out_height; ++y)
    for (i64 i = 0; i < w.out_width; ++i, of += channels) {
      float* corner = x + y * w.stride * row_x + i * w.stride * channels;
      for (i64 ky = 0; ky < w.kernel; ++ky)
        for (i64 kx = 0; kx < w.kernel; ++kx) {
          float* to = corner + ky * row_x + kx * channels;
          const float* tap = weight + (ky * w.kernel + kx) * channels;
          for (i64 c = 0; c < channels; c += VL) store(to + c, load(to + c) + load(tap + c) * load(of + c));
        }
    }
}

// Sums over the pixels of an image of gradient times input, for R rows of K taps at once, added to `to`.
template <int K, int R>
inline void depthwise_taps(const Window& w, i64 channels, const float* x, const float* of, i64 row_of, i64 width_of,
                           float* to) {
  const i64 row_x = w.padded_width() * channels, step = w.stride * channels;
  vec sums[R][K];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) sums[r][k] = vec{};
  for (i64 y = 0; y < w.out_height; ++y) {
    const float* from = x + y * w.stride * row_x;
    const float* gradient = of + y * width_of;
    i64 i = 0;
    if constexpr (K > 1 && VL == 16) {  // four pixels at once: their windows share what they load
      for (; w.stride == 1 && i + 4 <= w.out_width; i += 4, from += 4 * step, gradient += 4 * row_of) {
        vec g[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) g[j] = load(gradient + j * row_of);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 16
          for (int p = 0; p < 4 + K - 1; ++p) {
            const vec at = load(from + r * row_x + p * channels);
#pragma GCC unroll 8
            for (int k = 0; k < K; ++k)
              if (p - k >= 0 && p - k < 4) sums[r][k] += g[p - k] * at;
          }
      }
    }
    for (; i < w.out_width; ++i, from += step, gradient += row_of) {
      const vec g = load(gradient);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int k = 0; k < K; ++k) sums[r][k] += g * load(from + r * row_x + k * channels);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
    for (int k = 0; k < K; ++k) {
      float* place = to + (r * K + k) * channels;
      store(place, load(place) + sums[r][k]);
    }
}

// The gradient of the weights of a depthwise convolution, added to `to` (a row of channels for each tap).
// The gradient of the output has rows `row_of` floats apart, and lines of pixels `width_of`.
inline void depthwise_weights(const Window& w, i64 channels, const float* x, const float* of, i64 row_of,
                              i64 width_of, float* to) {
  const i64 row_x = w.padded_width() * channels;
  for (i64 c = 0; c < channels; c += VL) switch (w.kernel) {
      case 1: depthwise_taps<1, 1>(w, channels, x + c, of + c, row_of, width_of, to + c); break;
      case 3: depthwise_taps<3, 3>(w, channels, x + c, of + c, row_of, width_of, to + c); break;
      case 5:
        depthwise_taps<5, 3>(w, channels, x + c, of + c, row_of, width_of, to + c);
        depthwise_taps<5, 2>(w, channels, x + 3 * row_x + c, of + c, row_of, width_of, to + 15 * channels + c);
        break;
      case 7:
        depthwise_taps<7, 3>(w, channels, x + c, of + c, row_of, width_of, to + c);
        depthwise_taps<7, 2>(w, channels, x + 3 * row_x + c, of + c, row_of, width_of, to + 21 * channels + c);
        depthwise_taps<7, 2>(w, channels, x + 5 * row_x + c, of + c, row_of, width_of, to + 35 * channels + c);
        break;
      default:
        for (i64 tap = 0; tap < w.kernel * w.kernel; ++tap)
          depthwise_taps<1, 1>(w, channels, x + tap / w.kernel * row_x + tap % w.kernel * channels + c, of + c, row_of,
                               width_of, to + tap * channels + c);
    }
}

// Rows of a dense convolution's matrix: for each output pixel of lines [first, last) its window, then zeros.
inline void gather_windows(const Window& w, i64 channels, const float* x, i64 row_x, i64 first, i64 last, float* to,
                           i64 row_to) {
  const i64 filled = w.kernel * w.kernel * channels;
  for (i64 y = first; y < last; ++y)
    for (i64 i = 0; i < w.out_width; ++i, to += row_to) {
      float* place = to;
      const i64 left = i * w.stride - w.pad;
      for (i64 ky = 0; ky < w.kernel; ++ky) {
        const i64 sy = y * w.stride + ky - w.pad;
        if (row_x == channels && sy >= 0 && sy < w.height && left >= 0 && left + w.kernel <= w.width) {
          std::memcpy(place, x + (sy * w.width + left) * row_x, w.kernel * channels * sizeof(float));
          place += w.kernel * channels;
          continue;
        }
        for (i64 kx = 0; kx < w.kernel; ++kx, place += channels) {
          const i64 sx = left + kx;
          if (sy < 0 || sx < 0 || sy >= w.height || sx >= w.width)
            std::memset(place, 0, channels * sizeof(float));
          else
            std::memcpy(place, x + (sy * w.width + sx) * row_x, channels * sizeof(float));
        }
      }
      for (i64 k = filled; k < row_to; ++k) to[k] = 0;
    }
}

// The reverse: adds every window to the pixels that it was read from.
inline void scatter_windows(const Window& w, i64 channels, const float* from, i64 row_from, i64 first, i64 last,
                            float* x, i64 row_x) {
  for (i64 y = first; y < last; ++y)
    for (i64 i = 0; i < w.out_width; ++i, from += row_from)
      for (i64 ky = 0; ky < w.kernel; ++ky)
        for (i64 kx = 0; kx < w.kernel; ++kx) {
          const i64 sy = y * w.stride + ky - w.pad, sx = i * w.stride + kx - w.pad;
          if (sy < 0 || sx < 0 || sy >= w.height || sx >= w.width) continue;
          const float* place = from + (ky * w.kernel + kx) * channels;
          float* to = x + (sy * w.width + sx) * row_x;
          for (i64 c = 0; c < channels; ++c) to[c] += place[c];
        }
}

// to[2 i] = a[i], to[2 i + 1] = b[i]
inline void interleave(float* __restrict to, const float* __restrict a, const float* __restrict b, i64 count) {
  for (i64 i = 0; i < count; ++i) {
    to[2 * i] = a[i];
    to[2 * i + 1] = b[i];
  }
}

inline void separate(const float* __restrict from, float* __restrict a, float* __restrict b, i64 count, bool adds) {
  if (adds)
    for (i64 i = 0; i < count; ++i) {
      a[i] += from[2 * i];
      b[i] += from[2 * i + 1];
    }
  else
    for (i64 i = 0; i < count; ++i) {
      a[i] = from[2 * i];
      b[i] = from[2 * i + 1];
    }
}

}  // namespace spos
