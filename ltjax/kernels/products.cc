// Convolutions as products with the pixels under each tap of their kernel, fused with the batch norms
// around them: kernels of 1 x 1, strided ones, large ones, and those on images.
//
// NHWC; products are of float32, whatever is stored. Two calls for XLA's CPU backend, which compute what
// those of units.cc do:
//
//   product_forward, product_backward
//
// The pixels of a batch are worked on in blocks of rows that fit a core's cache. For every tap the
// rows of its input pixels are gathered, with the norm, the shortcut and the ReLU before them; then
//
//   y += rows w,    dw += rows^T dy,    dx (at those pixels) += dy w^T.
//
// The right factors of the products are packed in panels of a few vectors' width, so that they are
// read in order. The taps of a narrow kernel are taken together, as one product.

#include "blocks.h"

namespace {

// The block of a product: rows x vectors.
constexpr int kHigh = kVector == 16 ? 8 : 4, kWide = 2, kPanel = kWide * kVector;
// Longest sum in the registers. Longer ones are taken in pieces, whose panel fits the nearest cache.
constexpr int64_t kDeep = 256;
// Between rows of a block, so that they fall into other sets of the cache.
constexpr int64_t kSkip = 16;

// ---------------------------------------------------------------------------------------------
// Products of matrices, the right one in panels: [columns / kPanel][depth][kPanel].

// to [depth, columns] in panels; `at(k, o)` is an element. Panels first ... last - 1 alone.
template <class F>
void pack(int64_t depth, int64_t columns, int64_t first, int64_t last, float* to, F at) {
  for (int64_t j = first; j < last; j++) {
    const int64_t from = j * kPanel, width = std::min<int64_t>(kPanel, columns - from);
    float* panel = to + from * depth;
    for (int64_t k = 0; k < depth; k++)
      for (int64_t o = 0; o < width; o++) panel[k * width + o] = at(k, from + o);
  }
}

int64_t panels(int64_t columns) { return (columns + kPanel - 1) / kPanel; }

// c [rows, columns] (+)= a [rows, depth] b, b in panels; rows is a multiple of kHigh.
void multiply_panels(const float* a, int64_t da, const float* b, float* c, int64_t dc, int64_t rows, int64_t columns,
                     int64_t depth, bool add) {
  for (int64_t k = 0; k < depth; k += kDeep) {
    const int64_t deep = std::min(kDeep, depth - k);
    for (int64_t o = 0; o < columns; o += kPanel) {
      const int64_t width = std::min<int64_t>(kPanel, columns - o);
      const float* panel = b + o * depth + k * width;
      for (int64_t r = 0; r < rows; r += kHigh)
        if (width == kPanel) block<kHigh, kWide>(a + r * da + k, da, panel, kPanel, c + r * dc + o, dc, deep, add || k > 0);
        else block<kHigh, 1>(a + r * da + k, da, panel, kVector, c + r * dc + o, dc, deep, add || k > 0);
    }
  }
}

// c [rows, columns] += a^T b, a [depth, rows], b [depth, columns] in panels.
void add_transposed_panels(const float* a, int64_t da, const float* b, float* c, int64_t rows, int64_t columns, int64_t depth) {
  for (int64_t o = 0; o < columns; o += kPanel) {
    const bool wide = o + kPanel <= columns;
    const float* panel = b + o * depth;
    int64_t r = 0;
    for (; r + kHigh <= rows; r += kHigh)
      if (wide) add_block<kHigh, kWide>(a + r, da, panel, kPanel, c + r * columns + o, columns, depth);
      else add_block<kHigh, 1>(a + r, da, panel, kVector, c + r * columns + o, columns, depth);
    for (; r < rows; r++)
      if (wide) add_block<1, kWide>(a + r, da, panel, kPanel, c + r * columns + o, columns, depth);
      else add_block<1, 1>(a + r, da, panel, kVector, c + r * columns + o, columns, depth);
  }
}

// ---------------------------------------------------------------------------------------------
// One convolution.

struct Product {
  int batch, height, width, in, out, size, stride;
  bool same = false;  // XLA's padding "SAME": less before a side than after it, where they differ
  // Zeros before a side.
  int border(int side) const {
    return same ? std::max(0, (side - 1) / stride * stride + size - side) / 2 : size / 2;
  }
  int down() const { return (height - 1) / stride + 1; }
  int across() const { return (width - 1) / stride + 1; }
  int64_t pixels() const { return int64_t(down()) * across(); }  // of the output
  int64_t input() const { return int64_t(height) * width * in; }
  // The first element of a pixel of the input; -1 in the border.
  int64_t at(int64_t n, int y, int x) const {
    return y < 0 || y >= height || x < 0 || x >= width ? -1 : ((n * height + y) * width + x) * in;
  }
  // Whether rows of the input are those of the output.
  bool plain() const { return size == 1 && stride == 1; }
  bool images() const { return in % kVector != 0; }
  int taps() const { return size * size; }
  // Taps of one product: all of a narrow kernel's, or one.
  int together() const { return taps() * in <= 512 || images() ? taps() : 1; }
  int64_t depth() const { return int64_t(together()) * in; }
  int64_t distance() const { return up(int(depth()), kVector) + kSkip; }
  int64_t kernel() const { return int64_t(size) * size * in * out; }
  // Rows in a block, of `width` numbers each.
  int rows(int64_t width) const { return int(std::max<int64_t>(48, std::min<int64_t>(192, (3 << 16) / width / 16 * 16))); }
};

// Calls f(row, n, y, x) for the outputs first ... first + count - 1 of the batch: image n, and the
// input pixel under tap (i, j), which may be in the border.
template <class F>
void for_pixels(const Product& p, int64_t first, int64_t count, int i, int j, const F& f) {
  const int across = p.across(), above = p.border(p.height), before = p.border(p.width);
  int64_t n = first / p.pixels();
  int h = int(first % p.pixels() / across), w = int(first % across);
  for (int64_t r = 0; r < count; r++) {
    f(r, n, h * p.stride + i - above, w * p.stride + j - before);
    if (++w == across) w = 0, h++;
    if (h == p.down()) h = 0, n++;
  }
}

// Rows of all pixels under the kernel, without a norm before it.
void gather_images(const Product& p, const float* images, int64_t first, int64_t count, float* rows) {
  const int64_t distance = p.distance(), in = p.in, run = p.size * in, whole = up(int(run), kVector);
  const int64_t last = p.batch * p.input() - whole;
  for (int i = 0; i < p.size; i++)
    for_pixels(p, first, count, i, 0, [&](int64_t r, int64_t n, int y, int x) {
      float* to = rows + r * distance + i * run;
      const int64_t at = ((n * p.height + y) * p.width + x) * in;
      if (y >= 0 && y < p.height && x >= 0 && x + p.size <= p.width && at <= last) {
        // What is written behind a run is written again by the next tap, or lies between rows.
        for (int64_t e = 0; e < whole; e += kVector) store(to + e, load(images + at + e));
        return;
      }
      memset(to, 0, run * sizeof(float));
      if (y < 0 || y >= p.height) return;
      const int64_t left = std::max(0, -x) * in, right = std::min(p.size, p.width - x) * in;
      for (int64_t e = left; e < right; e++) to[e] = images[at + e];
    });
}

// The rows of u under the taps from `tap` on, at `distance` from each other, and rows of zeros up to a
// multiple of kHigh.
template <class T>
void gather_rows(const Product& p, const Before<T>& before, int64_t first, int64_t count, int tap, T* kept, float* rows) {
  const int64_t distance = p.distance();
  with_channels(p.in, [&](auto in) {
    if constexpr (std::is_same_v<T, float>)
      if (p.images()) return gather_images(p, before.x, first, count, rows);
    if (p.plain())
      for (int64_t r = 0; r < count; r++) compute_input(in, before, (first + r) * in, in, rows + r * distance, kept);
    else
      for (int t = 0; t < p.together(); t++)
        for_pixels(p, first, count, (tap + t) / p.size, (tap + t) % p.size, [&](int64_t r, int64_t n, int y, int x) {
          const int64_t at = p.at(n, y, x);
          float* to = rows + r * distance + t * in;
          if (at < 0) memset(to, 0, in * sizeof(float));
          else compute_input(in, before, at, in, to, static_cast<T*>(nullptr));
        });
  });
  memset(rows + count * distance, 0, (up(int(count), kHigh) - count) * distance * sizeof(float));
}

// Adds rows of gradients under the taps from `tap` on to dx, which begins at element `begin` of the batch.
void scatter_rows(const Product& p, const float* rows, int64_t first, int64_t count, int tap, int64_t begin, float* dx) {
  with_channels(p.in, [&](auto in) {
    for (int t = 0; t < p.together(); t++)
      for_pixels(p, first, count, (tap + t) / p.size, (tap + t) % p.size, [&](int64_t r, int64_t n, int y, int x) {
        const int64_t at = p.at(n, y, x);
        const float* from = rows + r * p.depth() + t * in;
        float* to = dx + (at - begin);
        for (int i = 0; at >= 0 && i < in; i += kVector) store(to + i, load(to + i) + load(from + i));
      });
  });
}

// Calls f(first, count) for the blocks of at most `size` outputs of a part of the batch.
template <class F>
void for_blocks(const Product& p, int part, int parts, int size, const F& f) {
  const int64_t end = int64_t(p.batch) * (part + 1) / parts * p.pixels();
  for (int64_t first = int64_t(p.batch) * part / parts * p.pixels(); first < end; first += size)
    f(first, std::min<int64_t>(size, end - first));
}

// Where products can be written at once: there if it is float32, else nowhere.
float* direct(float* to) { return to; }
float* direct(Half*) { return nullptr; }

template <class Pool, class T, class Y>
void forward(Pool& pool, const Product& p, const Before<T>& before, const float* w, Y* y, float* sums, T* kept) {
  const int64_t out = p.out, depth = p.depth(), distance = p.distance();
  const int parts = parts_of(p.batch, 2 * out), size = p.rows(depth + out);
  std::vector<float> partial(size_t(parts) * 2 * out), packed(p.kernel());
  in_parallel(pool, std::min<int64_t>(8, panels(out)), [&](int part) {
    const int64_t all = panels(out), few = std::min<int64_t>(8, all);
    for (int t = 0; t < p.taps(); t += p.together()) {
      const float* from = w + t * p.in * out;
      pack(depth, out, all * part / few, all * (part + 1) / few, packed.data() + t * p.in * out,
           [&](int64_t k, int64_t o) { return from[k * out + o]; });
    }
  });
  in_parallel(pool, parts, [&](int part) {
    float* rows = scratch(kPaddedInput, up(size, kHigh) * distance);
    float* products = scratch(kProducts, up(size, kHigh) * out);
    Before<T> from = before;
    if (kept != nullptr && !p.plain()) {
      const int64_t first = int64_t(p.batch) * part / parts * p.input();
      const int64_t end = int64_t(p.batch) * (part + 1) / parts * p.input();
      for (int64_t at = first; at < end; at += p.in) compute_input(int64_t(p.in), before, at, p.in, kept + at, static_cast<T*>(nullptr));
      from = {kept, nullptr, nullptr};
    }
    for_blocks(p, part, parts, size, [&](int64_t first, int64_t count) {
      float* to = count % kHigh == 0 ? direct(y + first * out) : nullptr;  // else some rows are no outputs
      const bool written = to != nullptr;
      if (!written) to = products;
      for (int t = 0; t < p.taps(); t += p.together()) {
        gather_rows(p, from, first, count, t, kept, rows);
        multiply_panels(rows, distance, packed.data() + t * p.in * out, to, out, up(int(count), kHigh), out, depth, t > 0);
      }
      if (!written) copy(products, count * out, y + first * out);
      add_sums(out, y + first * out, y + first * out, count, partial.data() + size_t(part) * 2 * out);
    });
  });
  add_parts(partial, 2 * out, sums);
}

template <class Pool, class T, class Y>
void backward(Pool& pool, const Product& p, const Before<T>& before, const Arriving<Y, T>& given, const float* w,
              const Leaving<T>& leaving) {
  const int64_t in = p.in, out = p.out, depth = p.depth(), distance = p.distance(), apart = out + kSkip, one = in * out;
  const int parts = parts_of(p.batch, p.kernel()), size = p.rows(depth + 2 * out);
  T* dx = leaving.dx;
  std::vector<float> partial(size_t(parts) * 2 * in), kernels(size_t(parts) * p.kernel()), turned(dx == nullptr ? 0 : p.kernel());
  if (dx != nullptr)
    in_parallel(pool, std::min<int64_t>(8, panels(depth)), [&](int part) {
      const int64_t all = panels(depth), few = std::min<int64_t>(8, all);
      for (int t = 0; t < p.taps(); t += p.together()) {
        const float* from = w + t * one;
        pack(out, depth, all * part / few, all * (part + 1) / few, turned.data() + t * one,
             [&](int64_t k, int64_t o) { return from[o * out + k]; });
      }
    });
  const Before<T> input = given.kept == nullptr ? before : Before<T>{given.kept, nullptr, nullptr};
  in_parallel(pool, parts, [&](int part) {
    float* rows = scratch(kPaddedInput, up(size, kHigh) * distance);
    float* g = scratch(kPaddedGradient, up(size, kHigh) * apart);
    float* packed = scratch(kTiles, size * out);
    float* products = scratch(kProducts, up(size, kHigh) * depth);
    float* own = kernels.data() + part * p.kernel();
    float* own_sums = partial.data() + size_t(part) * 2 * in;
    const int64_t begin = int64_t(p.batch) * part / parts * p.input(), end = int64_t(p.batch) * (part + 1) / parts * p.input();
    // Gradients under the taps are added up in float32.
    const bool added = dx != nullptr && !p.plain();
    float* whole = added ? direct(dx + begin) : nullptr;
    std::vector<float> beside(added && whole == nullptr ? end - begin : 0);
    if (added && whole == nullptr) whole = beside.data();
    else if (added) memset(whole, 0, (end - begin) * sizeof(float));
    for_blocks(p, part, parts, size, [&](int64_t first, int64_t count) {
      for (int64_t r = 0; r < count; r++)
        norm_gradient_line(out, out, given.dy + (first + r) * out, given.y + (first + r) * out, given.k, g + r * apart);
      memset(g + count * apart, 0, (up(int(count), kHigh) - count) * apart * sizeof(float));
      pack(count, out, 0, panels(out), packed, [&](int64_t k, int64_t o) { return g[k * apart + o]; });
      for (int t = 0; t < p.taps(); t += p.together()) {
        gather_rows(p, input, first, count, t, static_cast<T*>(nullptr), rows);
        add_transposed_panels(rows, distance, packed, own + t * one, depth, out, count);
        if (dx == nullptr) continue;
        float* to = p.plain() && count % kHigh == 0 ? direct(dx + first * in) : nullptr;
        const bool written = to != nullptr;
        if (!written) to = products;
        multiply_panels(g, apart, turned.data() + t * one, to, depth, up(int(count), kHigh), depth, out, false);
        if (added) scatter_rows(p, products, first, count, t, begin, whole);
        else if (before.affine != nullptr)
          end_gradient(in, before, given, nullptr, to, first * in, count * in, leaving, own_sums);
        else if (!written) copy(products, count * in, dx + first * in);
      }
    });
    if (added && before.affine != nullptr)
      with_channels(in, [&](auto c) {
        for (int64_t at = begin; at < end; at += p.width * c)
          end_gradient(c, before, given, nullptr, whole + (at - begin), at, p.width * c, leaving, own_sums);
      });
    else if (!beside.empty()) copy(whole, end - begin, dx + begin);
  });
  add_parts(kernels, p.kernel(), leaving.dk);
  add_parts(partial, 2 * in, leaving.sums);
}

// ---------------------------------------------------------------------------------------------
// The calls.

Product product_of(const Stored& x, const Array& w, int64_t stride, bool same) {
  const auto d = x.dimensions(), k = w.dimensions();
  return {int(d[0]), int(d[1]), int(d[2]), int(d[3]), int(k[3]), int(k[0]), int(stride), same};
}

// f(a number of x's type, one of y's): both float32 or bfloat16, or images in float32 and y in bfloat16.
template <class F>
ffi::Error with_types(const Product& p, bool needs_vectors, const Stored& x, const Stored& y, const F& f) {
  if (p.out % kVector != 0 || (needs_vectors && p.images()))
    return ffi::Error::InvalidArgument("channels are no multiple of a vector's width");
  return with_stored(x, [&](auto in) {
    return with_stored(y, [&](auto out) {
      if constexpr (sizeof(out) > sizeof(in)) return ffi::Error::InvalidArgument("a convolution has no larger type");
      else return f(in, out), ffi::Error::Success();
    });
  });
}

ffi::Error ProductForward(ffi::ThreadPool pool, Stored x, Array affine, Stored shortcut, Array w, StoredResult y,
                          Result sums, StoredResult kept, int64_t stride, bool same) {
  const Product p = product_of(x, w, stride, same);
  return with_types(p, affine.element_count() > 1, x, *y, [&](auto in, auto out) {
    using T = decltype(in);
    const Before<T> before = {optional<T>(x), optional(affine), optional<T>(shortcut)};
    forward(pool, p, before, w.typed_data(), optional<decltype(out)>(y), sums->typed_data(), optional<T>(kept));
  });
}

ffi::Error ProductBackward(ffi::ThreadPool pool, Stored dy, Stored y, Array k, Stored x, Array affine, Array w,
                           Stored kept, Stored du, StoredResult dx, Result sums, Result dk, StoredResult dshortcut,
                           int64_t stride, bool same) {
  const Product p = product_of(x, w, stride, same);
  return with_types(p, dx->element_count() > 1, x, y, [&](auto in, auto out) {
    using T = decltype(in);
    using Y = decltype(out);
    const Before<T> before = {optional<T>(x), optional(affine), nullptr};
    const Arriving<Y, T> given = {optional<Y>(dy), optional<Y>(y), k.typed_data(), optional<T>(du), optional<T>(kept)};
    const Leaving<T> leaving = {optional<T>(dx), sums->typed_data(), dk->typed_data(), optional<T>(dshortcut)};
    backward(pool, p, before, given, w.typed_data(), leaving);
  });
}

}  // namespace

#define CALL ffi::Ffi::Bind().Ctx<ffi::ThreadPool>()
XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_product_forward, ProductForward,
                              CALL.Arg<Stored>().Arg<Array>().Arg<Stored>().Arg<Array>().Ret<Stored>().Ret<Array>()
                                  .Ret<Stored>().Attr<int64_t>("stride").Attr<bool>("same"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(ltjax_product_backward, ProductBackward,
                              CALL.Arg<Stored>().Arg<Stored>().Arg<Array>().Arg<Stored>().Arg<Array>().Arg<Array>()
                                  .Arg<Stored>().Arg<Stored>().Ret<Stored>().Ret<Array>().Ret<Array>().Ret<Stored>()
                                  .Attr<int64_t>("stride").Attr<bool>("same"));
