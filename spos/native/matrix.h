// Products of small and middle-sized matrices, in registers: rows of pixels, columns of channels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace spos {

using i64 = std::int64_t;

#if defined(__AVX512F__)
constexpr int VL = 16;  // floats of a vector
constexpr int MR = 12;  // rows of a tile: 12 x 2 sums, 2 of the right matrix and a broadcast fit in 32 registers
#else
constexpr int VL = 8;
constexpr int MR = 6;
#endif
constexpr int NR = 2 * VL;    // columns of a tile
constexpr i64 LANES = 16;     // channels are padded to a multiple of this, with zeros

typedef float vec __attribute__((vector_size(VL * sizeof(float)), aligned(4), may_alias));

inline vec load(const float* p) { return *reinterpret_cast<const vec*>(p); }
inline void store(float* p, vec v) { *reinterpret_cast<vec*>(p) = v; }
inline vec spread(float x) { return x - vec{}; }
inline vec larger(vec a, vec b) { return a > b ? a : b; }
inline vec smaller(vec a, vec b) { return a < b ? a : b; }
inline float sum(vec v) {
  float total = 0;
  for (int i = 0; i < VL; ++i) total += v[i];
  return total;
}

inline i64 padded(i64 channels) { return (channels + LANES - 1) / LANES * LANES; }

// Floats from one row to the next: rows 1,024 bytes or a multiple apart would share few lines of the first cache.
inline i64 stride_of(i64 channels) {
  const i64 width = padded(channels);
  return width % 256 ? width : width + LANES;
}

// A right matrix of `depth` x `columns`. Packed: blocks of NR columns, each with its rows one after the other.
struct Right {
  const float* data;
  i64 depth;
  i64 row;  // floats from row to row; 0 if it is packed

  const float* block(i64 column) const { return row ? data + column : data + column * depth; }
  i64 stride(i64 width) const { return row ? row : width; }
};

template <int M, int V>
inline void tile(i64 depth, const float* a, i64 row_a, i64 step_a, const float* b, i64 row_b, float* c, i64 row_c,
                 bool adds) {
  vec sums[M][V];
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[m][v] = vec{};
  for (i64 k = 0; k < depth; ++k) {
    vec right[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) right[v] = load(b + k * row_b + v * VL);
#pragma GCC unroll 16
    for (int m = 0; m < M; ++m) {
      const vec left = spread(a[m * row_a + k * step_a]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[m][v] += left * right[v];
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      float* place = c + m * row_c + v * VL;
      store(place, adds ? load(place) + sums[m][v] : sums[m][v]);
    }
}

typedef void (*Tile)(i64, const float*, i64, i64, const float*, i64, float*, i64, bool);

template <int V>
inline Tile tile_of(int rows) {
  switch (rows) {
    case 1: return tile<1, V>;
    case 2: return tile<2, V>;
    case 3: return tile<3, V>;
    case 4: return tile<4, V>;
    case 5: return tile<5, V>;
    case 6: return tile<6, V>;
#if defined(__AVX512F__)
    case 7: return tile<7, V>;
    case 8: return tile<8, V>;
    case 9: return tile<9, V>;
    case 10: return tile<10, V>;
    case 11: return tile<11, V>;
    case 12: return tile<12, V>;
#endif
    default: return nullptr;
  }
}

// c (rows x columns) = or += a (rows x depth, element (i, k) at i * row_a + k * step_a) times b; columns in LANES.
inline void multiply(i64 rows, i64 columns, const float* a, i64 row_a, i64 step_a, Right b, float* c, i64 row_c,
                     bool adds) {
  for (i64 j = 0; j < columns;) {
    const i64 width = std::min<i64>(NR, columns - j);
    const float* right = b.block(j);
    const i64 row_b = b.stride(width);
    for (i64 i = 0; i < rows;) {
      // the last two tiles share what is left, so that none is thin
      const i64 left = rows - i;
      const int count = static_cast<int>(left >= 2 * MR || left <= MR ? std::min<i64>(left, MR) : (left + 1) / 2);
      const Tile run = width > VL ? tile_of<2>(count) : tile_of<1>(count);
      run(b.depth, a + i * row_a, row_a, step_a, right, row_b, c + i * row_c + j, row_c, adds);
      i += count;
    }
    j += width;
  }
}

// Packs `depth` x `columns` values of get(k, j), with zeros behind the last column.
template <class Get>
inline void pack(float* to, i64 depth, i64 columns, Get get) {
  for (i64 j = 0; j < padded(columns);) {
    const i64 width = std::min<i64>(NR, padded(columns) - j);
    const i64 filled = std::min(width, std::max<i64>(columns - j, 0));
    for (i64 k = 0; k < depth; ++k, to += width) {
      i64 i = 0;
      for (; i < filled; ++i) to[i] = get(k, j + i);
      for (; i < width; ++i) to[i] = 0;
    }
    j += width;
  }
}

}  // namespace spos
