// Vectors, and the products of matrices made of them: what both parts of the kernel compute with.
//
// Everything is compiled once for each kind of vector, with AVX-512, with AVX2 and FMA, and with neither (16-byte
// vectors, which every processor has).
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <omp.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
constexpr int MOST_ROWS = 14;  // 14 rows of 2 vectors, 2 more for the weights and one for a pixel fill 32 registers
constexpr int FC_WEIGHTS = 4, FC_ROWS = 6;
#elif defined(__AVX2__) && defined(__FMA__)
#define VECTOR_BYTES 32
constexpr int MOST_ROWS = 6;
constexpr int FC_WEIGHTS = 4, FC_ROWS = 2;
#else
#define VECTOR_BYTES 16
constexpr int MOST_ROWS = 6;
constexpr int FC_WEIGHTS = 4, FC_ROWS = 2;
#endif

namespace {

typedef float Vector __attribute__((vector_size(VECTOR_BYTES)));
typedef float Anywhere __attribute__((vector_size(VECTOR_BYTES), aligned(4), may_alias));  // in memory
typedef int32_t Integers __attribute__((vector_size(VECTOR_BYTES)));
typedef uint8_t Bytes __attribute__((vector_size(VECTOR_BYTES / 4)));

constexpr int LANES = VECTOR_BYTES / 4;
constexpr int PANEL = 2 * LANES;  // output channels computed together
constexpr int CHANNEL_MULTIPLE = 16;
constexpr int MOST_CHANNELS = 8192;  // of a net at the largest width; whoever calls with more is refused in Python
constexpr int SKEW = 16;  // floats between matrices, so that they do not fall into the same lines of the cache
alignas(64) const float ZEROS[MOST_CHANNELS] = {};  // what lies outside the map

inline Vector load(const float* from) { return *reinterpret_cast<const Anywhere*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Anywhere*>(to) = value; }
inline Vector larger(Vector a, Vector b) { return a > b ? a : b; }
inline Vector rectified(Vector a) { return a < Vector{} ? Vector{} : a; }  // NaN stays NaN

inline long at_most(long most, long value) { return value < most ? value : most; }

struct Span {
  long first, last;
};
// the part of `whole` things that falls to one of `parts`
inline Span share(long whole, long part, long parts) { return {whole * part / parts, whole * (part + 1) / parts}; }

// ---- products ------------------------------------------------------------------------------------------------------

// Row r of the left matrix is `segments` pieces of `length` floats, which begin at left + r * row_stride and lie
// segment_stride apart: one piece for a plain matrix, one for each row of the kernel for a convolution.
struct Left {
  const float* data;
  size_t row_stride, segment_stride;
  int segments, length;
};

template <int ROWS, int VECTORS>
void product(const Left& left, const float* right, float* out, size_t out_stride) {
  Vector sum[ROWS][VECTORS] = {};
  for (int segment = 0; segment < left.segments; segment++) {
    const float* row = left.data + segment * left.segment_stride;
    for (int i = 0; i < left.length; i++) {
      Vector weight[VECTORS];
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) {
        weight[v] = load(right + v * LANES);
        __builtin_prefetch(right + v * LANES + 16 * VECTORS * LANES);
      }
      right += VECTORS * LANES;
#pragma GCC unroll 14
      for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
        for (int v = 0; v < VECTORS; v++) sum[r][v] += row[r * left.row_stride + i] * weight[v];
    }
  }
#pragma GCC unroll 14
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) store(out + r * out_stride + v * LANES, sum[r][v]);
}

template <int ROWS, int VECTORS>
void product_of(int rows, const Left& left, const float* right, float* out, size_t out_stride) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS) return product_of<ROWS - 1, VECTORS>(rows, left, right, out, out_stride);
  }
  product<ROWS, VECTORS>(left, right, out, out_stride);
}

// out = left x right for `rows` rows and one panel of `width` output channels
void panel_product(Left left, long rows, const float* right, int width, float* out, size_t out_stride) {
  const float* first = left.data;
  const long blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
  for (long block = 0; block < blocks; block++) {
    const Span span = share(rows, block, blocks);
    left.data = first + span.first * left.row_stride;
    float* to = out + span.first * out_stride;
    if (width == PANEL)
      product_of<MOST_ROWS, 2>(span.last - span.first, left, right, to, out_stride);
    else
      product_of<MOST_ROWS, 1>(span.last - span.first, left, right, to, out_stride);
  }
}

inline int panel_width(int channels, int first) { return at_most(PANEL, channels - first); }

}  // namespace
