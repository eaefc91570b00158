// The layers of the nets on a processor, in float32.
//
// One source, compiled once for each kind of vector: with AVX-512, with AVX2 and FMA, and with neither (16-byte
// vectors, which every processor has). setup.py makes the libraries, library.py chooses among them.
//
// Activations lie channels last, n,y,x,c, with c rounded up to a multiple of 16; the channels that are not there are
// zero, and stay so. Nothing here allocates, keeps state or throws: the caller owns all memory, work space included.
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

constexpr int LANES = VECTOR_BYTES / 4;
constexpr int PANEL = 2 * LANES;  // output channels computed together
constexpr int CHANNEL_MULTIPLE = 16;
constexpr int SKEW = 16;  // floats between matrices, so that they do not fall into the same lines of the cache
constexpr int POINTS = 36;  // a 6x6 tile
constexpr int MOST_SHARED_TILES = 196;  // of a block that all threads share
constexpr int CHANNELS_AT_ONCE = 64;  // output channels of a thread's own block
alignas(64) const float ZEROS[8192] = {};  // what lies outside the map; no layer has more channels

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

// ---- Winograd's F(4x4,3x3): Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015 ---------------

struct Convolution {
  const float* map;
  int n, height, width, in, out;
  const float *weights, *bias;
  bool pool;
  float* result;

  int down() const { return (height + 3) / 4; }
  int across() const { return (width + 3) / 4; }
  long tiles() const { return (long)n * down() * across(); }
};

struct Tile {
  int image, y, x;  // of its first output
};

inline Tile find_tile(const Convolution& c, long number) {
  const long in_image = (long)c.down() * c.across(), rest = number % in_image;
  return {(int)(number / in_image), (int)(rest / c.across()) * 4, (int)(rest % c.across()) * 4};
}

inline void input_line(const Vector d[6], Vector* out, int stride) {
  const Vector even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], even2 = d[4] - d[2], odd2 = 2 * (d[3] - d[1]);
  out[0] = 4 * d[0] - 5 * d[2] + d[4];
  out[stride] = even + odd;
  out[2 * stride] = even - odd;
  out[3 * stride] = even2 + odd2;
  out[4 * stride] = even2 - odd2;
  out[5 * stride] = 4 * d[1] - 5 * d[3] + d[5];
}

inline void output_line(const Vector m[6], Vector* out, int stride) {
  const Vector sum = m[1] + m[2], difference = m[1] - m[2], sum2 = m[3] + m[4], difference2 = m[3] - m[4];
  out[0] = m[0] + sum + sum2;
  out[stride] = difference + 2 * difference2;
  out[2 * stride] = sum + 4 * sum2;
  out[3 * stride] = difference + 8 * difference2 + m[5];
}

// channels of one tile, from the map to the 36 matrices
void transform_input(const Convolution& c, long number, float* to, size_t matrix, int first, int last) {
  const Tile tile = find_tile(c, number);
  const float* place[POINTS];
  for (int i = 0; i < 6; i++)
    for (int j = 0; j < 6; j++) {
      const int y = tile.y + i - 1, x = tile.x + j - 1;
      const bool inside = y >= 0 && x >= 0 && y < c.height && x < c.width;
      place[i * 6 + j] = inside ? c.map + (((size_t)tile.image * c.height + y) * c.width + x) * c.in : ZEROS;
    }
  for (int channel = first; channel < last; channel += LANES) {
    Vector half[POINTS], line[6];
    for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
      for (int i = 0; i < 6; i++) {
        line[i] = load(place[i * 6 + j] + channel);
        __builtin_prefetch(place[i * 6 + j] + 4 * c.in + channel);
      }
      input_line(line, half + j, 6);
    }
    for (int i = 0; i < 6; i++) {
      input_line(half + 6 * i, line, 1);
#pragma GCC unroll 6
      for (int j = 0; j < 6; j++) store(to + (i * 6 + j) * matrix + channel, line[j]);
    }
  }
}

// channels of one tile, from the 36 matrices through bias, ReLU and pooling to the result
void transform_output(const Convolution& c, long number, const float* from, size_t matrix, int first, int last) {
  const Tile tile = find_tile(c, number);
  const int step = c.pool ? 2 : 1, height = c.height / step, width = c.width / step;
  float* result = c.result + (size_t)tile.image * height * width * c.out;
  for (int channel = first; channel < last; channel += LANES, from += LANES) {
    Vector half[24], line[6], out[16];
    for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
      for (int i = 0; i < 6; i++) line[i] = load(from + (i * 6 + j) * matrix);
      output_line(line, half + j, 6);
    }
    const Vector bias = load(c.bias + channel);
    for (int i = 0; i < 4; i++) {
      output_line(half + 6 * i, out + 4 * i, 1);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) out[4 * i + j] = rectified(out[4 * i + j] + bias);
    }
    for (int i = 0; i < 4 / step && tile.y / step + i < height; i++)
      for (int j = 0; j < 4 / step && tile.x / step + j < width; j++) {
        const Vector* o = out + step * (4 * i + j);
        const Vector value = c.pool ? larger(larger(o[0], o[1]), larger(o[4], o[5])) : o[0];
        store(result + ((size_t)(tile.y / step + i) * width + tile.x / step + j) * c.out + channel, value);
      }
  }
}

inline const float* panel_of(const Convolution& c, int point, int channel) {
  return c.weights + ((size_t)point * c.out + channel) * c.in;
}

// Tiles that a thread takes at once, so that their inputs fill half of its cache. None where there are many channels:
// so few are not worth reading the weights for, and the threads share a larger block.
int tiles_at_once(int in, long cache) {
  const long fit = cache / 2 / ((long)POINTS * in * sizeof(float));
  return at_most(112, fit - fit % 14);
}

struct Plan {
  bool shared;
  long most;  // tiles of a block
  size_t input, output;  // floats of one of the 36 matrices
  size_t floats;  // of work space
};

Plan plan(long tiles, int in, int out, int threads, long cache) {
  Plan p;
  const int own = tiles_at_once(in, cache);
  p.shared = own == 0 || tiles < (long)own * threads;
  p.most = at_most(tiles, p.shared ? MOST_SHARED_TILES : own);
  p.input = p.most * in + SKEW;
  p.output = p.most * (p.shared ? out : at_most(CHANNELS_AT_ONCE, out)) + SKEW;
  p.floats = POINTS * (p.input + p.output) * (p.shared ? 1 : threads);
  return p;
}

void convolve_own(const Convolution& c, const Plan& p, Span span, float* work) {
  float *in = work, *out = work + POINTS * p.input;
  const long count = span.last - span.first;
  for (long t = 0; t < count; t++) transform_input(c, span.first + t, in + t * c.in, p.input, 0, c.in);
  for (int begin = 0; begin < c.out; begin += CHANNELS_AT_ONCE) {
    const int channels = at_most(CHANNELS_AT_ONCE, c.out - begin), end = begin + channels;
    for (int point = 0; point < POINTS; point++)
      for (int k = begin; k < end; k += PANEL)
        panel_product({in + point * p.input, (size_t)c.in, 0, 1, c.in}, count, panel_of(c, point, k),
                      panel_width(c.out, k), out + point * p.output + k - begin, channels);
    for (long t = 0; t < count; t++)
      transform_output(c, span.first + t, out + t * channels, p.output, begin, end);
  }
}

void convolve_shared(const Convolution& c, const Plan& p, Span span, float* work) {  // inside a parallel region
  float *in = work, *out = work + POINTS * p.input;
  const long count = span.last - span.first;
  const int parts_in = (c.in + 63) / 64, parts_out = (c.out + 63) / 64, panels = (c.out + PANEL - 1) / PANEL;
#pragma omp for schedule(static)
  for (long i = 0; i < count * parts_in; i++) {
    const long t = i / parts_in, first = i % parts_in * 64, last = at_most(c.in, first + 64);
    transform_input(c, span.first + t, in + t * c.in, p.input, first, last);
  }
#pragma omp for schedule(dynamic, 2)
  for (int i = 0; i < POINTS * panels; i++) {
    const int point = i / panels, k = i % panels * PANEL;
    panel_product({in + point * p.input, (size_t)c.in, 0, 1, c.in}, count, panel_of(c, point, k),
                  panel_width(c.out, k), out + point * p.output + k, c.out);
  }
#pragma omp for schedule(static)
  for (long i = 0; i < count * parts_out; i++) {
    const long t = i / parts_out, first = i % parts_out * 64, last = at_most(c.out, first + 64);
    transform_output(c, span.first + t, out + t * c.out + first, p.output, first, last);
  }
}

// ---- direct convolutions: the first layer, 5x5 and 1x1 -------------------------------------------------------------

struct Activations {
  const float* data;
  int height, width, channels;

  void read_row(int image, int y, float* to) const {
    memcpy(to, data + ((size_t)image * height + y) * width * channels, sizeof(float) * width * channels);
  }
};

template <class Pixel>
struct Images {  // of any memory layout; the mean is subtracted here, before the zeros of the padding
  const Pixel* data;
  int height, width, channels;
  const long* stride;  // image, channel, y, x
  const float *mean, *divisor;

  void read_row(int image, int y, float* to) const {
    for (int c = 0; c < channels; c++) {
      const Pixel* from = data + image * stride[0] + c * stride[1] + y * stride[2];
      for (int x = 0; x < width; x++) to[x * channels + c] = (from[x * stride[3]] - mean[c]) / divisor[c];
    }
  }
};

// bias, ReLU and pooling of one row of the result, from one or two rows of sums
void finish_row(const float* sums, int width, int channels, const float* bias, bool pool, float* to) {
  const int step = pool ? 2 : 1;
  const float* below = sums + (size_t)width * channels;
  for (int x = 0; x < width / step; x++)
    for (int k = 0; k < channels; k += LANES) {
      const size_t at = (size_t)x * step * channels + k;
      Vector value = load(sums + at);
      if (pool)
        value = larger(larger(value, load(sums + at + channels)),
                       larger(load(below + at), load(below + at + channels)));
      store(to + (size_t)x * channels + k, rectified(value + load(bias + k)));
    }
}

size_t direct_floats(int width, int in, int out, int kernel) {
  return (size_t)(kernel + 1) * (width + kernel - 1) * in + (size_t)2 * width * out + SKEW;
}

template <class Source>
void convolve_directly(const Source& source, int n, int out, int kernel, const float* weights, const float* bias,
                       bool pool, float* result, float* work, int threads) {
  const int step = pool ? 2 : 1, rows = source.height / step, width = source.width, in = source.channels;
  const int margin = kernel / 2;
  const size_t row = (size_t)(width + kernel - 1) * in, floats = direct_floats(width, in, out, kernel);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (long i = 0; i < (long)n * rows; i++) {
    const int image = i / rows, y = i % rows;
    float *padded = work + omp_get_thread_num() * floats, *sums = padded + (kernel + 1) * row;
    for (int j = 0; j < kernel + step - 1; j++) {
      float* line = padded + j * row;
      const int from = y * step + j - margin;
      memset(line, 0, sizeof(float) * row);
      if (from >= 0 && from < source.height) source.read_row(image, from, line + margin * in);
    }
    for (int k = 0; k < out; k += PANEL)
      for (int j = 0; j < step; j++)
        panel_product({padded + j * row, (size_t)in, row, kernel, kernel * in}, width,
                      weights + (size_t)k * kernel * kernel * in, panel_width(out, k),
                      sums + (size_t)j * width * out + k, out);
    finish_row(sums, width, out, bias, pool, result + (size_t)i * (width / step) * out);
  }
}

// ---- fully connected ----------------------------------------------------------------------------------------------

inline float total(Vector v) {
  float lane[LANES];
  store(lane, v);
  for (int half = LANES / 2; half; half /= 2)
    for (int i = 0; i < half; i++) lane[i] += lane[i + half];
  return lane[0];
}

constexpr int GROUP = 4 * FC_WEIGHTS;  // rows of the weight matrix that a thread takes at once
constexpr long MOST_FC_ROWS = 128;  // of the other one, which are then read again and again

// Adds to sums, a vector for each pair, the products of ROWS rows with WEIGHTS rows of the weight matrix as they lie.
template <int ROWS, int WEIGHTS>
void inner_products(const float* rows, const float* weights, size_t stride, long length, float* sums, bool first) {
  Vector sum[ROWS][WEIGHTS] = {};
  long i = 0;
  for (; i + LANES <= length; i += LANES) {
    Vector weight[WEIGHTS];
#pragma GCC unroll 4
    for (int w = 0; w < WEIGHTS; w++) {
      weight[w] = load(weights + w * stride + i);
      __builtin_prefetch(weights + w * stride + i + 64);
    }
#pragma GCC unroll 6
    for (int r = 0; r < ROWS; r++) {
      const Vector value = load(rows + r * stride + i);
#pragma GCC unroll 4
      for (int w = 0; w < WEIGHTS; w++) sum[r][w] += value * weight[w];
    }
  }
  for (int r = 0; r < ROWS; r++)
    for (int w = 0; w < WEIGHTS; w++) {
      float* to = sums + (r * GROUP + w) * LANES;
      store(to, first ? sum[r][w] : load(to) + sum[r][w]);
      for (long j = i; j < length; j++) *to += rows[r * stride + j] * weights[w * stride + j];
    }
}

template <int ROWS>
void inner_products_of(int count, const float* rows, const float* weights, int num_weights, size_t stride, long length,
                       float* sums, bool first) {
  if constexpr (ROWS > 1) {
    if (count < ROWS)
      return inner_products_of<ROWS - 1>(count, rows, weights, num_weights, stride, length, sums, first);
  }
  if (num_weights == FC_WEIGHTS)
    return inner_products<ROWS, FC_WEIGHTS>(rows, weights, stride, length, sums, first);
  for (int w = 0; w < num_weights; w++)
    inner_products<ROWS, 1>(rows, weights + w * stride, stride, length, sums + w * LANES, first);
}

}  // namespace

// ---- the interface: library.py --------------------------------------------------------------------------------------

extern "C" {

const char* verydeep_source() { return VERYDEEP_SOURCE; }  // the fingerprint of this file, from setup.py
int verydeep_channels(int channels) { return (channels + CHANNEL_MULTIPLE - 1) / CHANNEL_MULTIPLE * CHANNEL_MULTIPLE; }

// weights k,c,3,3, times a factor for each k -> 36, then panels of output channels: c, channels of the panel
void verydeep_pack_winograd(const float* weights, const double* factor, int k, int c, float* to, int threads) {
  static const double G[6][3] = {{1. / 4, 0, 0},           {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
                                 {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};
  const int in = verydeep_channels(c), out = verydeep_channels(k);
#pragma omp parallel for num_threads(threads)
  for (int first = 0; first < out; first += PANEL) {
    const int width = panel_width(out, first);
    for (int channel = 0; channel < in; channel++) {
      double w[3][3][PANEL] = {}, half[6][3][PANEL];
      for (int lane = 0; lane < width && first + lane < k && channel < c; lane++)
        for (int i = 0; i < 9; i++)
          w[i / 3][i % 3][lane] = factor[first + lane] * weights[((size_t)(first + lane) * c + channel) * 9 + i];
      for (int i = 0; i < 6; i++)
        for (int x = 0; x < 3; x++)
          for (int lane = 0; lane < PANEL; lane++)
            half[i][x][lane] = G[i][0] * w[0][x][lane] + G[i][1] * w[1][x][lane] + G[i][2] * w[2][x][lane];
      for (int i = 0; i < 6; i++)
        for (int j = 0; j < 6; j++) {
          float* point = to + ((size_t)(i * 6 + j) * out + first) * in + (size_t)channel * width;
          for (int lane = 0; lane < width; lane++)
            point[lane] = (float)(half[i][0][lane] * G[j][0] + half[i][1][lane] * G[j][1] + half[i][2][lane] * G[j][2]);
        }
    }
  }
}

// weights k,c,s,s, times a factor for each k -> panels of output channels: y, x, c of `in`, channels of the panel
void verydeep_pack_direct(const float* weights, const double* factor, int k, int c, int in, int kernel, float* to) {
  const int out = verydeep_channels(k), places = kernel * kernel;
  for (int first = 0; first < out; first += PANEL) {
    const int width = panel_width(out, first);
    for (int place = 0; place < places; place++)
      for (int channel = 0; channel < in; channel++)
        for (int lane = 0; lane < width; lane++) {
          const int o = first + lane;
          const bool there = o < k && channel < c;
          *to++ = there ? (float)(factor[o] * weights[((size_t)o * c + channel) * places + place]) : 0;
        }
  }
}

size_t verydeep_winograd_floats(long tiles, int in, int out, int threads, long cache) {
  return plan(tiles, in, out, threads, cache).floats;
}

// a 3x3 convolution with bias and ReLU, and 2x2 max-pooling where asked for
void verydeep_winograd(const float* map, int n, int height, int width, int in, int out, const float* weights,
                       const float* bias, int pool, float* result, float* work, int threads, long cache) {
  const Convolution c = {map, n, height, width, in, out, weights, bias, pool != 0, result};
  const long tiles = c.tiles();
  const Plan p = plan(tiles, in, out, threads, cache);
  long blocks = tiles ? (tiles + p.most - 1) / p.most : 0;
  if (p.shared) {
#pragma omp parallel num_threads(threads)
    for (long block = 0; block < blocks; block++) convolve_shared(c, p, share(tiles, block, blocks), work);
  } else {
    blocks = (blocks + threads - 1) / threads * threads;  // or a thread would wait for another's last block
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (long block = 0; block < blocks; block++)
      convolve_own(c, p, share(tiles, block, blocks), work + omp_get_thread_num() * POINTS * (p.input + p.output));
  }
}

size_t verydeep_direct_floats(int width, int in, int out, int kernel, int threads) {
  return threads * direct_floats(width, in, out, kernel);
}

// the same for a kernel of any odd side
void verydeep_direct(const float* map, int n, int height, int width, int in, int out, int kernel, const float* weights,
                     const float* bias, int pool, float* result, float* work, int threads) {
  const Activations source = {map, height, width, in};
  convolve_directly(source, n, out, kernel, weights, bias, pool != 0, result, work, threads);
}

// the same for images of three channels: bytes, or floats
void verydeep_first(const void* images, int bytes, const long* stride, const float* mean, const float* divisor, int n,
                    int height, int width, int out, int kernel, const float* weights, const float* bias, int pool,
                    float* result, float* work, int threads) {
  if (bytes) {
    const Images<uint8_t> source = {(const uint8_t*)images, height, width, 3, stride, mean, divisor};
    convolve_directly(source, n, out, kernel, weights, bias, pool != 0, result, work, threads);
  } else {
    const Images<float> source = {(const float*)images, height, width, 3, stride, mean, divisor};
    convolve_directly(source, n, out, kernel, weights, bias, pool != 0, result, work, threads);
  }
}

// local response normalisation over five channels, beta 3/4, and 2x2 max-pooling
void verydeep_normalise_and_pool(const float* map, int n, int height, int width, int channels, float alpha, float k,
                                 float* result, int threads) {
  const int rows = height / 2, columns = width / 2;
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (long i = 0; i < (long)n * rows; i++) {
    const float* top = map + ((size_t)(i / rows) * height + i % rows * 2) * width * channels;
    for (int x = 0; x < columns; x++) {
      float* to = result + ((size_t)i * columns + x) * channels;
      for (int corner = 0; corner < 4; corner++) {
        const float* from = top + ((size_t)(corner / 2) * width + 2 * x + corner % 2) * channels;
        for (int c = 0; c < channels; c++) {
          float squares = 0;
          for (int j = c < 2 ? 0 : c - 2; j <= c + 2 && j < channels; j++) squares += from[j] * from[j];
          const float scale = k + alpha * squares, value = from[c] / std::sqrt(scale * std::sqrt(scale));
          to[c] = corner && !(value > to[c]) ? to[c] : value;
        }
      }
    }
  }
}

size_t verydeep_fully_connected_floats(long count, int threads) {
  return threads * at_most(MOST_FC_ROWS, count) * GROUP * LANES;
}

// rows x weights transposed, with bias, and ReLU where asked for; the weights lie as PyTorch has them: out,length
void verydeep_fully_connected(const float* rows, long count, long length, int out, const float* weights,
                              const float* bias, int rectify, float* result, float* work, int threads) {
  const long piece = count <= FC_ROWS ? length : 2048, blocks = (count + MOST_FC_ROWS - 1) / MOST_FC_ROWS;
  for (long block = 0; block < blocks; block++) {
    const Span span = share(count, block, blocks);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int first = 0; first < out; first += GROUP) {
      float* sums = work + omp_get_thread_num() * (span.last - span.first) * GROUP * LANES;
      const auto sum_of = [&](long r, int k) { return sums + ((r - span.first) * GROUP + k - first) * LANES; };
      const int last = at_most(out, first + GROUP);
      for (long begin = 0; begin < length; begin += piece)
        for (long r = span.first; r < span.last; r += FC_ROWS)
          for (int k = first; k < last; k += FC_WEIGHTS)
            inner_products_of<FC_ROWS>(at_most(FC_ROWS, span.last - r), rows + r * length + begin,
                                       weights + (size_t)k * length + begin, at_most(FC_WEIGHTS, last - k), length,
                                       at_most(piece, length - begin), sum_of(r, k), begin == 0);
      for (long r = span.first; r < span.last; r++)
        for (int k = first; k < last; k++) {
          const float value = total(load(sum_of(r, k))) + bias[k];
          result[r * out + k] = rectify && value < 0 ? 0 : value;
        }
    }
  }
}

}  // extern "C"
