// Training: the gradient of a 3x3 convolution's weights by Winograd's algorithm, and weights transformed at each step.
//
// If Y = A'[(G w G') * (B' x B)]A is the convolution, then the gradient of w is G'[(A g A') * (B' x B)]G, where g is the
// gradient of Y: 36 products of matrices that are as long as there are tiles. All sums go over the tiles in their order,
// whatever the number of threads. Channels are multiples of 16.
#include "winograd.h"

namespace {

constexpr long GRADIENT_FLOATS = 1 << 22;  // of transformed tiles, where the weights are few: they stay in a cache
constexpr int ROWS_AT_ONCE = 64;  // output channels of a task
constexpr long TILES_AT_ONCE = 128;  // of a sum, before it is added to the others
constexpr float SIXTH = 1.f / 6;

// ---- transforms -----------------------------------------------------------------------------------------------------

inline void gradient_line(const Vector g[4], Vector* out, int stride) {
  const Vector even = g[0] + g[2], odd = g[1] + g[3], even2 = g[0] + 4 * g[2], odd2 = 2 * g[1] + 8 * g[3];
  out[0] = g[0];
  out[stride] = even + odd;
  out[2 * stride] = even - odd;
  out[3 * stride] = even2 + odd2;
  out[4 * stride] = even2 - odd2;
  out[5 * stride] = g[3];
}

// a vector of channels of the gradient of one tile, to the 36 matrices
template <class Window>
inline void transform_gradient(const Window& window, int channel, float* to, size_t matrix) {
  Vector half[24], line[6];
  for (int j = 0; j < 4; j++) {
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) line[i] = window.at(i * 4 + j, channel);
    gradient_line(line, half + j, 4);
  }
  for (int i = 0; i < 6; i++) {
    gradient_line(half + 4 * i, line, 1);
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) store(to + (i * 6 + j) * matrix, line[j]);
  }
}

inline void weight_line(const Vector w[3], Vector* out, int stride) {
  const Vector outer = w[0] + w[2], even = w[0] * (1.f / 24) + w[2] * SIXTH, odd = w[1] * (1.f / 12);
  out[0] = w[0] * 0.25f;
  out[stride] = (outer + w[1]) * -SIXTH;
  out[2 * stride] = (outer - w[1]) * -SIXTH;
  out[3 * stride] = even + odd;
  out[4 * stride] = even - odd;
  out[5 * stride] = w[2];
}

inline void weight_gradient_line(const Vector m[6], Vector* out, int stride) {
  const Vector sum = (m[1] + m[2]) * -SIXTH, difference = (m[2] - m[1]) * SIXTH;
  const Vector sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  out[0] = m[0] * 0.25f + sum + sum2 * (1.f / 24);
  out[stride] = difference + difference2 * (1.f / 12);
  out[2 * stride] = sum + sum2 * SIXTH + m[5];
}

// ---- the weights' gradient ------------------------------------------------------------------------------------------

// Matrices in strips of channels: a strip holds its channels of every row, one row after the other.
struct Strips {
  int width, channels;  // of a strip, of all
  long rows;

  size_t floats() const { return rows * channels + SKEW; }
  size_t strip(int channel) const { return (size_t)channel / width * width * rows; }
  int width_of(int channel) const { return at_most(width, channels - channel / width * width); }
  size_t place(long row, int channel) const {
    return strip(channel) + row * width_of(channel) + channel % width;
  }
};

// Adds to `out`, a strip, or makes it: the sum over the rows of left and right of every pair of their columns.
template <int ROWS, int VECTORS>
void outer_products(const float* left, int left_stride, const float* right, long count, float* out, bool first) {
  Vector sum[ROWS][VECTORS] = {};
  for (long t = 0; t < count; t++) {
    Vector value[VECTORS];
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++) value[v] = load(right + v * LANES);
#pragma GCC unroll 14
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
      for (int v = 0; v < VECTORS; v++) sum[r][v] += left[r] * value[v];
    left += left_stride;
    right += VECTORS * LANES;
  }
#pragma GCC unroll 14
  for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 2
    for (int v = 0; v < VECTORS; v++, out += LANES) store(out, first ? sum[r][v] : load(out) + sum[r][v]);
}

template <int ROWS, int VECTORS>
void outer_products_of(int rows, const float* left, int left_stride, const float* right, long count, float* out,
                       bool first) {
  if constexpr (ROWS > 1) {
    if (rows < ROWS)
      return outer_products_of<ROWS - 1, VECTORS>(rows, left, left_stride, right, count, out, first);
  }
  outer_products<ROWS, VECTORS>(left, left_stride, right, count, out, first);
}

// The products of a strip of the gradient with a strip of the map, in pieces that stay in the nearest cache; sums of
// sums lose fewer bits, too.
void strip_product(const float* left, int rows, const float* right, int width, long count, float* out, bool first) {
  const int blocks = (rows + MOST_ROWS - 1) / MOST_ROWS;
  const long pieces = (count + TILES_AT_ONCE - 1) / TILES_AT_ONCE;
  for (long piece = 0; piece < pieces; piece++, first = false) {
    const Span tiles = share(count, piece, pieces);
    const float *from = left + tiles.first * rows, *with = right + tiles.first * width;
    const long taken = tiles.last - tiles.first;
    for (int block = 0; block < blocks; block++) {
      const Span span = share(rows, block, blocks);
      const int height = span.last - span.first;
      float* to = out + span.first * width;
      if (width == PANEL)
        outer_products_of<MOST_ROWS, 2>(height, from + span.first, rows, with, taken, to, first);
      else
        outer_products_of<MOST_ROWS, 1>(height, from + span.first, rows, with, taken, to, first);
    }
  }
}

struct GradientPlan {
  long blocks;
  Strips map, gradient, sums;

  size_t floats() const { return POINTS * (map.floats() + gradient.floats() + sums.floats()); }
};

GradientPlan gradient_plan(long tiles, int in, int out) {
  // as many tiles as stay in the cache, and so many that reading and writing the sums costs less than the tiles do
  const long fit = GRADIENT_FLOATS / POINTS / (in + out), worth = 2L * in * out / (in + out);
  const long most = fit < worth ? worth : fit, blocks = tiles ? (tiles + most - 1) / most : 0;
  const long rows = blocks ? (tiles + blocks - 1) / blocks : 0;
  return {blocks, {PANEL, in, rows}, {ROWS_AT_ONCE, out, rows}, {PANEL, in, out}};
}

template <class Source>
struct WeightGradient {
  Plain map;
  Source gradient;
  Shape shape;  // of the map
  int out;
  float *result, *bias;  // k,3,3,c and k

  Shape shape_of_gradient() const { return {shape.n, shape.height, shape.width, out}; }
};

template <class Source>
void transform_tiles(const WeightGradient<Source>& g, const GradientPlan& p, Span span, float* map, float* gradient) {
  const Shape shape = g.shape_of_gradient();
#pragma omp for schedule(static)
  for (long number = span.first; number < span.last; number++) {
    const Tile tile = shape.tile(number);
    const long row = number - span.first;
    const Plain::Window<6> from_map(g.map, g.shape, tile, 1);
    for (int channel = 0; channel < g.shape.channels; channel += LANES)
      transform_input(from_map, channel, map + p.map.place(row, channel), p.map.floats());
    const typename Source::template Window<4> from_gradient(g.gradient, shape, tile, 0);
    for (int channel = 0; channel < g.out; channel += LANES)
      transform_gradient(from_gradient, channel, gradient + p.gradient.place(row, channel), p.gradient.floats());
  }
}

// Point 1, 1 of a transformed gradient is the sum of its tile.
void add_to_bias(const GradientPlan& p, const float* gradient, long count, float* bias, bool first) {
  const float* sums = gradient + 7 * p.gradient.floats();
#pragma omp for schedule(static)
  for (int channel = 0; channel < p.gradient.channels; channel += LANES) {
    Vector sum = {};
    for (long row = 0; row < count; row++) sum += load(sums + p.gradient.place(row, channel));
    store(bias + channel, first ? sum : load(bias + channel) + sum);
  }
}

void add_products(const GradientPlan& p, const float* map, const float* gradient, long count, float* sums, bool first) {
  const int strips = (p.map.channels + PANEL - 1) / PANEL;
  const int blocks = (p.gradient.channels + ROWS_AT_ONCE - 1) / ROWS_AT_ONCE;
#pragma omp for schedule(dynamic, 2)
  for (int i = 0; i < POINTS * blocks * strips; i++) {
    const int point = i / (blocks * strips), k = i / strips % blocks * ROWS_AT_ONCE, c = i % strips * PANEL;
    strip_product(gradient + point * p.gradient.floats() + p.gradient.strip(k), p.gradient.width_of(k),
                  map + point * p.map.floats() + p.map.strip(c), p.map.width_of(c), count,
                  sums + point * p.sums.floats() + p.sums.place(k, c), first);
  }
}

void transform_back(const GradientPlan& p, const float* sums, float* result) {
  const int in = p.map.channels;
#pragma omp for schedule(static)
  for (int k = 0; k < p.gradient.channels; k++)
    for (int channel = 0; channel < in; channel += LANES) {
      const float* from = sums + p.sums.place(k, channel);
      Vector half[18], line[6];
      for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
        for (int i = 0; i < 6; i++) line[i] = load(from + (i * 6 + j) * p.sums.floats());
        weight_gradient_line(line, half + j, 6);
      }
      for (int i = 0; i < 3; i++) {
        weight_gradient_line(half + 6 * i, line, 1);
        for (int j = 0; j < 3; j++) store(result + ((size_t)k * 9 + i * 3 + j) * in + channel, line[j]);
      }
    }
}

template <class Source>
void weight_gradient(const WeightGradient<Source>& g, float* work, int threads) {
  const long tiles = g.shape.tiles();
  const GradientPlan p = gradient_plan(tiles, g.shape.channels, g.out);
  float *map = work, *gradient = map + POINTS * p.map.floats(), *sums = gradient + POINTS * p.gradient.floats();
#pragma omp parallel num_threads(threads)
  {
    for (long block = 0; block < p.blocks; block++) {
      const Span span = share(tiles, block, p.blocks);
      transform_tiles(g, p, span, map, gradient);
      add_to_bias(p, gradient, span.last - span.first, g.bias, block == 0);
      add_products(p, map, gradient, span.last - span.first, sums, block == 0);
    }
    transform_back(p, sums, g.result);
  }
}

// calls `compute` with what a gradient is read from
template <class Compute>
void with_source(const float* data, const float* output, const uint8_t* where, const Compute& compute) {
  if (where)
    compute(Pooled{data, where});
  else if (output)
    compute(Rectified{data, output});
  else
    compute(Plain{data});
}

}  // namespace

// ---- the interface: library.py --------------------------------------------------------------------------------------

extern "C" {

// Weights k,3,3,c for a convolution, or turned round for that of its gradient: 36, then panels of output channels, as
// verydeep_winograd has them.
void verydeep_pack_for_training(const float* weights, int k, int c, int turned, float* to, int threads) {
  const int in = turned ? k : c, out = turned ? c : k;
#pragma omp parallel for num_threads(threads)
  for (int first = 0; first < out; first += PANEL) {
    const int width = panel_width(out, first);
    for (int channel = 0; channel < in; channel++)
      for (int v = 0; v < width; v += LANES) {
        Vector half[18], line[6], w[9];
        for (int place = 0; place < 9; place++) {
          if (turned) {
            w[place] = load(weights + ((size_t)channel * 9 + 8 - place) * c + first + v);
          } else {
            float lanes[LANES];
            for (int lane = 0; lane < LANES; lane++)
              lanes[lane] = weights[((size_t)(first + v + lane) * 9 + place) * c + channel];
            w[place] = load(lanes);
          }
        }
        for (int j = 0; j < 3; j++) {
          for (int i = 0; i < 3; i++) line[i] = w[i * 3 + j];
          weight_line(line, half + j, 3);
        }
        for (int i = 0; i < 6; i++) {
          weight_line(half + 3 * i, line, 1);
          for (int j = 0; j < 6; j++)
            store(to + ((size_t)(i * 6 + j) * out + first) * in + (size_t)channel * width + v, line[j]);
        }
      }
  }
}

// A 3x3 convolution with bias; with ReLU and pooling where asked for, then it says which of four places was largest.
void verydeep_training_forward(const float* map, int n, int height, int width, int in, int out, const float* weights,
                               const float* bias, int rectify, int pool, float* result, uint8_t* where, float* work,
                               int threads, long cache) {
  convolve(Convolution<Plain>{{map}, {n, height, width, in}, out, weights, bias, rectify != 0, pool != 0, result, where},
           work, threads, cache);
}

// The gradient of its input from that of its result, which has `in` channels: through the pooling where there is
// `where`, else through the ReLU where there is `output`.
void verydeep_input_gradient(const float* gradient, const float* output, const uint8_t* where, int n, int height,
                             int width, int in, int out, const float* weights, float* result, float* work, int threads,
                             long cache) {
  with_source(gradient, output, where, [&](auto source) {
    convolve(Convolution<decltype(source)>{source, {n, height, width, in}, out, weights, ZEROS, false, false, result,
                                           nullptr},
             work, threads, cache);
  });
}

size_t verydeep_weight_gradient_floats(long tiles, int in, int out) { return gradient_plan(tiles, in, out).floats(); }

// The gradient of its weights, k,3,3,c, and of its bias.
void verydeep_weight_gradient(const float* map, const float* gradient, const float* output, const uint8_t* where, int n,
                              int height, int width, int in, int out, float* result, float* bias, float* work,
                              int threads) {
  with_source(gradient, output, where, [&](auto source) {
    weight_gradient(WeightGradient<decltype(source)>{{map}, source, {n, height, width, in}, out, result, bias}, work,
                    threads);
  });
}

}  // extern "C"
