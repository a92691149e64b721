// Convolutions of a residual network's training step, fused with the batch norms around them.
//
// NHWC, kernels of 3 x 3 with a border of one zero (others are in products.cc). What follows stores
// float32 and has a stride of 1; where bfloat16 is stored, tiles.h computes.
// Two calls for XLA's CPU backend:
//
//   unit_forward    y = conv(u, k), u = x or relu(a x + b) or relu(a x + b + shortcut), and the sums
//                   of y and y^2 per channel; u itself where it is the next shortcut
//   unit_backward   the gradients of x, k, (a, b) and the shortcut; the gradient of the sums enters
//                   as k0 y + k1
//
// Everything rests on two matrix products of small blocks that live in registers. A convolution
// becomes 16 of them by Winograd's F(2 x 2, 3 x 3), which needs 2.25 times fewer products (Lavin and
// Gray, arXiv:1509.09308).

#include "blocks.h"
#include "tiles.h"

namespace {

// ---------------------------------------------------------------------------------------------
// Images with a border of zeros. `Frame` is the geometry of one: its border is one pixel above and
// to the left, and on the other sides as wide as tiles of 2 x 2 outputs reach.

struct Frame {
  int height, width, channels;  // of the image
  int rows, columns;            // with the border
  int64_t row() const { return int64_t(columns) * channels; }
  int64_t size() const { return rows * row(); }
};

Frame frame(int height, int width, int channels) {
  return {height, width, channels, up(height, 2) + 2, up(width, 2) + 2};
}

// Writes the border of an image and its pixels by `pixel(row, column, out)`.
template <class F>
void fill(const Frame& f, float* out, F pixel) {
  const int64_t c = f.channels;
  memset(out, 0, f.row() * sizeof(float));
  for (int h = 0; h < f.height; h++) {
    float* line = out + (h + 1) * f.row();
    memset(line, 0, c * sizeof(float));
    pixel(h, line + c);
    memset(line + (f.width + 1) * c, 0, (f.columns - f.width - 1) * c * sizeof(float));
  }
  memset(out + (f.height + 1) * f.row(), 0, (f.rows - f.height - 1) * f.row() * sizeof(float));
}

// One image of u with a border, from element `at` of the batch on; also to `kept` where that is not null.
template <class Channels>
void pad_input(Channels c, const Frame& f, const Before<float>& before, int64_t at, float* kept, float* out) {
  const int64_t line = f.width * c;
  fill(f, out, [&](int h, float* to) { compute_input(c, before, at + h * line, line, to, kept); });
}

// dy + k0 y + k1 of a whole image, with a border.
template <class Channels>
void pad_gradient(Channels c, const Frame& f, const float* dy, const float* y, const float* k, float* out) {
  const int64_t line = int64_t(f.width) * c;
  fill(f, out, [&](int h, float* to) { norm_gradient_line(c, line, dy + h * line, y + h * line, k, to); });
}

// ---------------------------------------------------------------------------------------------
// Winograd's F(2 x 2, 3 x 3): 16 products per tile of 2 x 2 outputs. A chunk of tiles is laid out
// as [16, tiles, channels], with some distance between the 16 so that they fall into other sets of
// the cache.

constexpr int kApart = 16;

struct Tiles {
  int first, count, padded;  // in the group of images; `padded` is a multiple of kRows
  int64_t plane(int64_t channels) const { return int64_t(padded) * channels + kApart; }
};

// Tiles of a group of images: of one frame after the other, row by row.
struct Grid {
  int across, down;
  int each() const { return across * down; }
  // Offset of a tile's upper left pixel in a group of images.
  int64_t at(int tile, int64_t image, int64_t row, int64_t pixel) const {
    const int n = tile / each(), rest = tile % each();
    return n * image + 2 * (rest / across) * row + 2 * (rest % across) * pixel;
  }
};

void transform_kernel(const float* w, float* u, int64_t n) {  // [9, n] -> [16, n]: G w G^T
  for (int64_t e = 0; e < n; e++) {
    float t[4][3];
    for (int j = 0; j < 3; j++) {
      const float a = w[j * n + e], b = w[(3 + j) * n + e], c = w[(6 + j) * n + e];
      t[0][j] = a, t[1][j] = 0.5f * (a + b + c), t[2][j] = 0.5f * (a - b + c), t[3][j] = c;
    }
    for (int i = 0; i < 4; i++) {
      const float a = t[i][0], b = t[i][1], c = t[i][2];
      float* to = u + 4 * i * n + e;
      to[0] = a, to[n] = 0.5f * (a + b + c), to[2 * n] = 0.5f * (a - b + c), to[3 * n] = c;
    }
  }
}

void transform_back(const float* u, float* w, int64_t n) {  // [16, n] -> [9, n]: G^T u G
  for (int64_t e = 0; e < n; e++) {
    float t[3][4];
    for (int j = 0; j < 4; j++) {
      const float a = u[j * n + e], b = u[(4 + j) * n + e];
      const float c = u[(8 + j) * n + e], d = u[(12 + j) * n + e];
      t[0][j] = a + 0.5f * (b + c), t[1][j] = 0.5f * (b - c), t[2][j] = 0.5f * (b + c) + d;
    }
    for (int i = 0; i < 3; i++) {
      const float a = t[i][0], b = t[i][1], c = t[i][2], d = t[i][3];
      float* to = w + 3 * i * n + e;
      to[0] = a + 0.5f * (b + c), to[n] = 0.5f * (b - c), to[2 * n] = 0.5f * (b + c) + d;
    }
  }
}

// B^T d B of every tile's 4 x 4 pixels.
template <class Channels>
void transform_input(Channels c, const Frame& f, const Grid& grid, const Tiles& tiles, const float* x, float* v) {
  const int64_t row = f.row(), plane = tiles.plane(c);
  for (int t = 0; t < tiles.count; t++) {
    const float* tile = x + grid.at(tiles.first + t, f.size(), row, c);
    for (int i = 0; i < c; i += kVector) {
      const float* p = tile + i;
      Vec b[4][4];
      UNROLL for (int j = 0; j < 4; j++) {
        const Vec d0 = load(p + j * c), d1 = load(p + row + j * c);
        const Vec d2 = load(p + 2 * row + j * c), d3 = load(p + 3 * row + j * c);
        b[0][j] = d0 - d2, b[1][j] = d1 + d2, b[2][j] = d2 - d1, b[3][j] = d1 - d3;
      }
      float* to = v + t * c + i;
      UNROLL for (int r = 0; r < 4; r++) {
        store(to + (4 * r) * plane, b[r][0] - b[r][2]);
        store(to + (4 * r + 1) * plane, b[r][1] + b[r][2]);
        store(to + (4 * r + 2) * plane, b[r][2] - b[r][1]);
        store(to + (4 * r + 3) * plane, b[r][1] - b[r][3]);
      }
    }
  }
}

// A dy A^T of every tile's 2 x 2 pixels; `g` points at the first pixel inside the border.
template <class Channels>
void transform_gradient(Channels c, const Frame& f, const Grid& grid, const Tiles& tiles, const float* g, float* m) {
  const int64_t row = f.row(), plane = tiles.plane(c);
  for (int t = 0; t < tiles.count; t++) {
    const float* tile = g + grid.at(tiles.first + t, f.size(), row, c);
    for (int i = 0; i < c; i += kVector) {
      const float* p = tile + i;
      const Vec a = load(p), b = load(p + c), d = load(p + row), e = load(p + row + c);
      const Vec z[4][2] = {{a, b}, {a + d, b + e}, {a - d, b - e}, {-d, -e}};
      float* to = m + t * c + i;
      UNROLL for (int r = 0; r < 4; r++) {
        store(to + (4 * r) * plane, z[r][0]);
        store(to + (4 * r + 1) * plane, z[r][0] + z[r][1]);
        store(to + (4 * r + 2) * plane, z[r][0] - z[r][1]);
        store(to + (4 * r + 3) * plane, -z[r][1]);
      }
    }
  }
}

// A^T m A of every tile, to the images `y` [height, width, channels]; pixels outside are left out.
template <class Channels>
void transform_output(Channels c, int height, int width, const Grid& grid, const Tiles& tiles,
                      const float* m, float* y) {
  const int64_t row = int64_t(width) * c, plane = tiles.plane(c);
  for (int t = 0; t < tiles.count; t++) {
    const int tile = tiles.first + t, rest = tile % grid.each();
    const bool right = 2 * (rest % grid.across) + 1 < width, below = 2 * (rest / grid.across) + 1 < height;
    float* out = y + grid.at(tile, height * row, row, c);
    for (int i = 0; i < c; i += kVector) {
      const float* p = m + t * c + i;
      Vec b[2][4];
      UNROLL for (int j = 0; j < 4; j++) {
        const Vec m0 = load(p + j * plane), m1 = load(p + (4 + j) * plane);
        const Vec m2 = load(p + (8 + j) * plane), m3 = load(p + (12 + j) * plane);
        b[0][j] = m0 + m1 + m2, b[1][j] = m1 - m2 - m3;
      }
      store(out + i, b[0][0] + b[0][1] + b[0][2]);
      if (right) store(out + c + i, b[0][1] - b[0][2] - b[0][3]);
      if (below) store(out + row + i, b[1][0] + b[1][1] + b[1][2]);
      if (below && right) store(out + row + c + i, b[1][1] - b[1][2] - b[1][3]);
    }
  }
}

// ---------------------------------------------------------------------------------------------
// One convolution.

struct Unit : Shape {
  Frame input_frame() const { return frame(height, width, in); }
  Frame output_frame() const { return frame(height, width, out); }
  Grid grid() const { return {up(width, 2) / 2, up(height, 2) / 2}; }
  // Tiles in a chunk: what the cache of a core holds, or more where the kernels do not fit it.
  int chunk() const {
    if (int64_t(in) * out >= 128 * 128) return 64;
    return std::min(64, std::max(16, up((1 << 18) / (64 * (in + out)), 16)));
  }
  // Images whose tiles are worked on together, so that small images fill a chunk.
  int group() const { return std::min(8, (chunk() - 1) / grid().each() + 1); }
};

template <class F>
void for_chunks(int total, int size, const F& f) {
  for (int first = 0; first < total; first += size) {
    const int count = std::min(size, total - first);
    f(Tiles{first, count, up(count, kRows)});
  }
}

// y = x * u for a group of padded images of frame `f`, u [16, in, out].
template <class In, class Out>
void convolve_tiles(In in, Out out, const Unit& unit, const Frame& f, int images, const float* x, const float* u, float* y) {
  const Grid grid = unit.grid();
  const int size = unit.chunk();
  const int64_t kernel = in * out;
  float* v = scratch(kTiles, 16 * Tiles{0, 0, up(size, kRows)}.plane(in));
  float* m = scratch(kProducts, 16 * Tiles{0, 0, up(size, kRows)}.plane(out));
  for_chunks(images * grid.each(), size, [&](const Tiles& tiles) {
    transform_input(in, f, grid, tiles, x, v);
    for (int k = 0; k < 16; k++)
      multiply(v + k * tiles.plane(in), in, u + k * kernel, out, m + k * tiles.plane(out), out, tiles.padded, out, in);
    transform_output(out, f.height, f.width, grid, tiles, m, y);
  });
}

// du [16, in, out] += the gradient of the transformed kernel; x and g padded.
template <class In, class Out>
void kernel_gradient_tiles(In in, Out out, const Unit& unit, int images, const float* x, const float* g, float* du) {
  const Grid grid = unit.grid();
  const Frame fx = unit.input_frame(), fg = unit.output_frame();
  const int size = unit.chunk();
  const int64_t kernel = in * out;
  float* v = scratch(kTiles, 16 * Tiles{0, 0, up(size, kRows)}.plane(in));
  float* m = scratch(kProducts, 16 * Tiles{0, 0, up(size, kRows)}.plane(out));
  const float* inside = g + fg.row() + out;
  for_chunks(images * grid.each(), size, [&](const Tiles& tiles) {
    transform_input(in, fx, grid, tiles, x, v);
    transform_gradient(out, fg, grid, tiles, inside, m);
    for (int k = 0; k < 16; k++)
      add_transposed(v + k * tiles.plane(in), in, m + k * tiles.plane(out), out, du + k * kernel, out, in, out,
                     tiles.count);
  });
}

template <class In, class Out, class Pool>
void forward(In in, Out out, Pool& pool, const Unit& unit, const Before<float>& before, const float* w, float* y,
             float* sums, float* kept) {
  const int parts = parts_of(unit.batch, 2 * out);
  std::vector<float> partial(size_t(parts) * 2 * out), u(16 * in * out);
  transform_kernel(w, u.data(), in * out);
  const Frame f = unit.input_frame();
  in_parallel(pool, parts, [&](int part) {
    float* padded = scratch(kPaddedInput, f.size() * unit.group());
    const int end = unit.batch * (part + 1) / parts;
    for (int n = unit.batch * part / parts; n < end; n += unit.group()) {
      const int images = std::min(unit.group(), end - n);
      for (int i = 0; i < images; i++) pad_input(in, f, before, (n + i) * unit.input(), kept, padded + i * f.size());
      float* to = y + n * unit.output();
      convolve_tiles(in, out, unit, f, images, padded, u.data(), to);
      add_sums(out, to, to, images * (unit.output() / out), partial.data() + size_t(part) * 2 * out);
    }
  });
  add_parts(partial, 2 * out, sums);
}

// `end_gradient` of some images' input, whose u is padded.
template <class In>
void end_gradients(In in, const Unit& unit, int images, const Before<float>& before,
                   const Arriving<float, float>& given, const float* padded, int64_t first, const Leaving<float>& out,
                   float* sums) {
  const Frame f = unit.input_frame();
  const int64_t line = int64_t(unit.width) * in;
  for (int i = 0; i < images; i++)
    for (int h = 0; h < unit.height; h++) {
      const float* u = padded + i * f.size() + (h + 1) * f.row() + in;
      const int64_t at = first + i * unit.input() + h * line;
      end_gradient(in, before, given, u, out.dx + at, at, line, out, sums);
    }
}

template <class In, class Out, class Pool>
void backward(In in, Out out, Pool& pool, const Unit& unit, const Before<float>& before,
              const Arriving<float, float>& given, const float* w, const Leaving<float>& leaving) {
  const int64_t one = in * out, kernel = 16 * one;
  const int parts = parts_of(unit.batch, kernel);
  std::vector<float> turned(9 * one), partial(size_t(parts) * 2 * in), kernels(parts * kernel), u(kernel);
  for (int t = 0; t < 9; t++)  // [9, out, in], turned by half a circle
    for (int o = 0; o < out; o++)
      for (int c = 0; c < in; c++) turned[((8 - t) * int64_t(out) + o) * in + c] = w[t * one + c * out + o];
  transform_kernel(turned.data(), u.data(), one);
  const Frame fx = unit.input_frame(), fg = unit.output_frame();
  // Where u was kept it is not computed again.
  const Before<float> input = given.kept == nullptr ? before : Before<float>{given.kept, nullptr, nullptr};
  float* dx = leaving.dx;
  in_parallel(pool, parts, [&](int part) {
    float* g = scratch(kPaddedGradient, fg.size() * unit.group());
    float* padded = scratch(kPaddedInput, fx.size() * unit.group());
    float* own = kernels.data() + part * kernel;
    const int end = unit.batch * (part + 1) / parts;
    for (int n = unit.batch * part / parts; n < end; n += unit.group()) {
      const int images = std::min(unit.group(), end - n);
      const int64_t first = n * unit.input();
      for (int i = 0; i < images; i++) {
        const int64_t at = (n + i) * unit.output();
        pad_gradient(out, fg, given.dy + at, given.y + at, given.k, g + i * fg.size());
        pad_input(in, fx, input, first + i * unit.input(), nullptr, padded + i * fx.size());
      }
      kernel_gradient_tiles(in, out, unit, images, padded, g, own);
      if (dx != nullptr) convolve_tiles(out, in, unit, fg, images, g, u.data(), dx + first);
      if (dx != nullptr && before.affine != nullptr)
        end_gradients(in, unit, images, before, given, padded, first, leaving,
                      partial.data() + size_t(part) * 2 * in);
    }
  });
  std::vector<float> sum(kernel);
  add_parts(kernels, kernel, sum.data());
  transform_back(sum.data(), leaving.dk, one);
  add_parts(partial, 2 * in, leaving.sums);
}

// ---------------------------------------------------------------------------------------------
// The calls.

Shape shape_of(const Stored& x, const Array& w, int64_t stride) {
  const auto d = x.dimensions();
  return {int(d[0]), int(d[1]), int(d[2]), int(d[3]), int(w.dimensions()[3]), int(stride)};
}

// f(in, out): the units of a stage keep their width, and are compiled for it.
template <class F>
void with_widths(const Shape& unit, const F& f) {
  if (unit.in == unit.out) with_channels(unit.in, [&](auto c) { f(c, c); });
  else f(int64_t(unit.in), int64_t(unit.out));
}

// Calls f(in, out, unit, a number that is stored) of the kind that computes this.
template <class F>
ffi::Error with_unit(const Stored& x, const Array& w, int64_t stride, const F& f) {
  const Shape shape = shape_of(x, w, stride);
  if (shape.out % kVector != 0 || shape.in % kVector != 0)
    return ffi::Error::InvalidArgument("channels are no multiple of a vector's width");
  return with_stored(x, [&](auto stored) {
    using Own = std::conditional_t<std::is_same_v<decltype(stored), float>, Unit, tiles::Unit>;
    if (std::is_same_v<Own, Unit> && stride != 1) return ffi::Error::InvalidArgument("this stride is for products.cc");
    if (std::is_same_v<Own, tiles::Unit> && !tiles::usable())
      return ffi::Error(ffi::ErrorCode::kUnimplemented, "this CPU has no matrix tiles");
    with_widths(shape, [&](auto in, auto out) { f(in, out, Own{shape}, stored); });
    return ffi::Error::Success();
  });
}

ffi::Error UnitForward(ffi::ThreadPool pool, int64_t stride, Stored x, Array affine, Stored shortcut, Array w,
                       StoredResult y, Result sums, StoredResult kept) {
  return with_unit(x, w, stride, [&](auto in, auto out, auto unit, auto stored) {
    using T = decltype(stored);
    const Before<T> before = {optional<T>(x), optional(affine), optional<T>(shortcut)};
    forward(in, out, pool, unit, before, w.typed_data(), optional<T>(y), sums->typed_data(), optional<T>(kept));
  });
}

ffi::Error UnitBackward(ffi::ThreadPool pool, int64_t stride, Stored dy, Stored y, Array k, Stored x, Array affine,
                        Array w, Stored kept, Stored du, StoredResult dx, Result sums, Result dk,
                        StoredResult dshortcut) {
  return with_unit(x, w, stride, [&](auto in, auto out, auto unit, auto stored) {
    using T = decltype(stored);
    const Before<T> before = {optional<T>(x), optional(affine), nullptr};
    const Arriving<T, T> given = {optional<T>(dy), optional<T>(y), k.typed_data(), optional<T>(du), optional<T>(kept)};
    const Leaving<T> leaving = {optional<T>(dx), sums->typed_data(), dk->typed_data(), optional<T>(dshortcut)};
    backward(in, out, pool, unit, before, given, w.typed_data(), leaving);
  });
}

}  // namespace

// Whether this CPU and system have the tiles that bfloat16 needs.
extern "C" bool ltjax_has_tiles() { return tiles::usable(); }

#define CALL ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Attr<int64_t>("stride")
XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_unit_forward, UnitForward,
                              CALL.Arg<Stored>().Arg<Array>().Arg<Stored>().Arg<Array>().Ret<Stored>().Ret<Array>()
                                  .Ret<Stored>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_unit_backward, UnitBackward,
                              CALL.Arg<Stored>().Arg<Stored>().Arg<Array>().Arg<Stored>().Arg<Array>().Arg<Array>()
                                  .Arg<Stored>().Arg<Stored>().Ret<Stored>().Ret<Array>().Ret<Array>().Ret<Stored>());
