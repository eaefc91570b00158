// Winograd's F(4x4,3x3): Lavin and Gray, "Fast algorithms for convolutional neural networks", 2015.
//
// A 3x3 convolution from transformed tiles of 6x6 to tiles of 4x4. What it reads may be a map as it lies, or the
// gradient of a map that was rectified, or rectified and pooled, which is worked out while it is read.
#pragma once

#include "vectors.h"

namespace {

constexpr int POINTS = 36;  // a 6x6 tile
constexpr int MOST_SHARED_TILES = 196;  // of a block that all threads share
constexpr int CHANNELS_AT_ONCE = 64;  // output channels of a thread's own block
constexpr uint8_t NOWHERE = 4;  // what was pooled is 0: no gradient goes through its ReLU
alignas(64) const uint8_t NO_BYTES[MOST_CHANNELS] = {};

struct Tile {
  int image, y, x;  // of its first place
};

struct Shape {
  int n, height, width, channels;

  int down() const { return (height + 3) / 4; }
  int across() const { return (width + 3) / 4; }
  long tiles() const { return (long)n * down() * across(); }
  size_t place(int image, int y, int x) const { return (((size_t)image * height + y) * width + x) * channels; }
  bool has(int y, int x) const { return y >= 0 && x >= 0 && y < height && x < width; }
  Tile tile(long number) const {
    const long in_image = (long)down() * across(), rest = number % in_image;
    return {(int)(number / in_image), (int)(rest / across()) * 4, (int)(rest % across()) * 4};
  }
};

// ---- what is read: SIDE x SIDE places from a tile's first one less the margin on, zero outside the map ---------------

struct Plain {
  const float* data;

  template <int SIDE>
  struct Window {
    const float* from[SIDE * SIDE];
    int ahead;

    Window(const Plain& map, const Shape& shape, Tile tile, int margin) : ahead(4 * shape.channels) {
      for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
          const int y = tile.y + i - margin, x = tile.x + j - margin;
          from[i * SIDE + j] = shape.has(y, x) ? map.data + shape.place(tile.image, y, x) : ZEROS;
        }
    }
    Vector at(int place, int channel) const {
      __builtin_prefetch(from[place] + ahead + channel);
      return load(from[place] + channel);
    }
  };
};

struct Rectified {  // the gradient of a map after its ReLU, and that map
  const float *data, *output;

  template <int SIDE>
  struct Window {
    typename Plain::Window<SIDE> gradient, output;

    Window(const Rectified& map, const Shape& shape, Tile tile, int margin)
        : gradient({map.data}, shape, tile, margin), output({map.output}, shape, tile, margin) {}
    Vector at(int place, int channel) const {
      const Vector value = gradient.at(place, channel);
      return output.at(place, channel) > 0 ? value : Vector{};
    }
  };
};

struct Pooled {  // the gradient of a map after its ReLU and 2x2 max-pooling, and which of the four each place was
  const float* data;
  const uint8_t* where;

  template <int SIDE>
  struct Window {
    const float* from[SIDE * SIDE];
    const uint8_t* where[SIDE * SIDE];
    int corner[SIDE * SIDE];

    Window(const Pooled& map, const Shape& shape, Tile tile, int margin) {
      const Shape pooled = {shape.n, shape.height / 2, shape.width / 2, shape.channels};
      for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
          const int y = tile.y + i - margin, x = tile.x + j - margin, to = i * SIDE + j;
          const bool inside = y >= 0 && x >= 0 && pooled.has(y / 2, x / 2);
          const size_t place = inside ? pooled.place(tile.image, y / 2, x / 2) : 0;
          from[to] = inside ? map.data + place : ZEROS;
          where[to] = inside ? map.where + place : NO_BYTES;
          corner[to] = inside ? y % 2 * 2 + x % 2 : NOWHERE;
        }
    }
    Vector at(int place, int channel) const {
      Bytes bytes;
      memcpy(&bytes, where[place] + channel, sizeof bytes);
      return __builtin_convertvector(bytes, Integers) == corner[place] ? load(from[place] + channel) : Vector{};
    }
  };
};

// ---- transforms -----------------------------------------------------------------------------------------------------

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

// a vector of channels of one tile, from the map to the 36 matrices
template <class Window>
inline void transform_input(const Window& window, int channel, float* to, size_t matrix) {
  Vector half[POINTS], line[6];
  for (int j = 0; j < 6; j++) {
#pragma GCC unroll 6
    for (int i = 0; i < 6; i++) line[i] = window.at(i * 6 + j, channel);
    input_line(line, half + j, 6);
  }
  for (int i = 0; i < 6; i++) {
    input_line(half + 6 * i, line, 1);
#pragma GCC unroll 6
    for (int j = 0; j < 6; j++) store(to + (i * 6 + j) * matrix, line[j]);
  }
}

template <class Source>
struct Convolution {
  Source source;
  Shape shape;  // of what is read
  int out;
  const float *weights, *bias;
  bool rectify, pool;
  float* result;
  uint8_t* where;  // which of the four was the largest, if that is asked for
};

// the largest of a 2x2 square, and where it was
inline Vector largest(const Vector* square, uint8_t* where) {
  Vector most = square[0];
  if (!where) return larger(larger(most, square[1]), larger(square[4], square[5]));
  Integers corner = {};
  for (int i = 1; i < 4; i++) {
    const Vector value = square[i / 2 * 4 + i % 2];
    const Integers more = value > most;
    corner = more ? Integers{} + i : corner;
    most = more ? value : most;
  }
  const Bytes bytes = __builtin_convertvector(most > 0 ? corner : Integers{} + NOWHERE, Bytes);
  memcpy(where, &bytes, sizeof bytes);
  return most;
}

// channels of one tile, from the 36 matrices through bias, ReLU and pooling to the result
template <class Source>
void transform_output(const Convolution<Source>& c, long number, const float* from, size_t matrix, int first,
                      int last) {
  const Tile tile = c.shape.tile(number);
  const int step = c.pool ? 2 : 1;
  const Shape to = {c.shape.n, c.shape.height / step, c.shape.width / step, c.out};
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
      for (int j = 0; j < 4; j++) {
        out[4 * i + j] += bias;
        if (c.rectify) out[4 * i + j] = rectified(out[4 * i + j]);
      }
    }
    for (int i = 0; i < 4 / step && tile.y / step + i < to.height; i++)
      for (int j = 0; j < 4 / step && tile.x / step + j < to.width; j++) {
        const size_t place = to.place(tile.image, tile.y / step + i, tile.x / step + j) + channel;
        const Vector* square = out + step * (4 * i + j);
        store(c.result + place, c.pool ? largest(square, c.where ? c.where + place : nullptr) : *square);
      }
  }
}

// ---- the convolution ------------------------------------------------------------------------------------------------

template <class Source>
inline const float* panel_of(const Convolution<Source>& c, int point, int channel) {
  return c.weights + ((size_t)point * c.out + channel) * c.shape.channels;
}

// Tiles that a thread takes at once, so that their inputs fill half of its cache. None where there are many channels:
// so few are not worth reading the weights for, and the threads share a larger block.
inline int tiles_at_once(int in, long cache) {
  const long fit = cache / 2 / ((long)POINTS * in * sizeof(float));
  return at_most(112, fit - fit % 14);
}

struct Plan {
  bool shared;
  long most;  // tiles of a block
  size_t input, output;  // floats of one of the 36 matrices
  size_t floats;  // of work space
};

inline Plan plan(long tiles, int in, int out, int threads, long cache) {
  Plan p;
  const int own = tiles_at_once(in, cache);
  p.shared = own == 0 || tiles < (long)own * threads;
  p.most = at_most(tiles, p.shared ? MOST_SHARED_TILES : own);
  p.input = p.most * in + SKEW;
  p.output = p.most * (p.shared ? out : at_most(CHANNELS_AT_ONCE, out)) + SKEW;
  p.floats = POINTS * (p.input + p.output) * (p.shared ? 1 : threads);
  return p;
}

// channels of one tile, from the map to the 36 matrices
template <class Source>
void transform_tile(const Source& source, const Shape& shape, long number, float* to, size_t matrix, int first,
                    int last) {
  const typename Source::template Window<6> window(source, shape, shape.tile(number), 1);
  for (int channel = first; channel < last; channel += LANES) transform_input(window, channel, to + channel, matrix);
}

template <class Source>
void convolve_own(const Convolution<Source>& c, const Plan& p, Span span, float* work) {
  float *in = work, *out = work + POINTS * p.input;
  const int channels_in = c.shape.channels;
  const long count = span.last - span.first;
  for (long t = 0; t < count; t++)
    transform_tile(c.source, c.shape, span.first + t, in + t * channels_in, p.input, 0, channels_in);
  for (int begin = 0; begin < c.out; begin += CHANNELS_AT_ONCE) {
    const int channels = at_most(CHANNELS_AT_ONCE, c.out - begin), end = begin + channels;
    for (int point = 0; point < POINTS; point++)
      for (int k = begin; k < end; k += PANEL)
        panel_product({in + point * p.input, (size_t)channels_in, 0, 1, channels_in}, count, panel_of(c, point, k),
                      panel_width(c.out, k), out + point * p.output + k - begin, channels);
    for (long t = 0; t < count; t++)
      transform_output(c, span.first + t, out + t * channels, p.output, begin, end);
  }
}

template <class Source>
void convolve_shared(const Convolution<Source>& c, const Plan& p, Span span, float* work) {  // in a parallel region
  float *in = work, *out = work + POINTS * p.input;
  const int channels_in = c.shape.channels;
  const long count = span.last - span.first;
  const int parts_in = (channels_in + 63) / 64, parts_out = (c.out + 63) / 64, panels = (c.out + PANEL - 1) / PANEL;
#pragma omp for schedule(static)
  for (long i = 0; i < count * parts_in; i++) {
    const long t = i / parts_in, first = i % parts_in * 64, last = at_most(channels_in, first + 64);
    transform_tile(c.source, c.shape, span.first + t, in + t * channels_in, p.input, first, last);
  }
#pragma omp for schedule(dynamic, 2)
  for (int i = 0; i < POINTS * panels; i++) {
    const int point = i / panels, k = i % panels * PANEL;
    panel_product({in + point * p.input, (size_t)channels_in, 0, 1, channels_in}, count, panel_of(c, point, k),
                  panel_width(c.out, k), out + point * p.output + k, c.out);
  }
#pragma omp for schedule(static)
  for (long i = 0; i < count * parts_out; i++) {
    const long t = i / parts_out, first = i % parts_out * 64, last = at_most(c.out, first + 64);
    transform_output(c, span.first + t, out + t * c.out + first, p.output, first, last);
  }
}

template <class Source>
void convolve(const Convolution<Source>& c, float* work, int threads, long cache) {
  const long tiles = c.shape.tiles();
  const Plan p = plan(tiles, c.shape.channels, c.out, threads, cache);
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

}  // namespace
