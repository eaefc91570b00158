// The layers of the nets on a processor, in float32.
//
// One source, compiled once for each kind of vector: setup.py makes the libraries, library.py chooses among them.
//
// Activations lie channels last, n,y,x,c, with c rounded up to a multiple of 16; the channels that are not there are
// zero, and stay so. Nothing here allocates, keeps state or throws: the caller owns all memory, work space included.
#include "winograd.h"

namespace {

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

const char* verydeep_source() { return VERYDEEP_SOURCE; }  // the fingerprint of the source, from setup.py
int verydeep_channels(int channels) { return (channels + CHANNEL_MULTIPLE - 1) / CHANNEL_MULTIPLE * CHANNEL_MULTIPLE; }
int verydeep_most_channels() { return MOST_CHANNELS; }

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
  convolve(Convolution<Plain>{{map}, {n, height, width, in}, out, weights, bias, true, pool != 0, result, nullptr},
           work, threads, cache);
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
