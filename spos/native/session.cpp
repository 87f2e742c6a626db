// Runs a path of a network, forward and backward, from a list of steps that `spos/native/steps.py` writes.
//
// What a convolution gives is kept as it is; BatchNorm and activation are applied where it is read, a few hundred rows
// at a time, while they are in the cache. So a layer reads its input and writes its output once, and backward likewise:
// the gradient of an activation is taken, and the sums that BatchNorm's gradient needs, where the gradient is made.
//
// Work is cut into pieces of images or rows, whose sums are added in their order: the result does not depend on the
// number of threads.

#include <cmath>
#include <memory>
#include <stdexcept>
#include <string>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "layers.h"
#include "threads.h"
#include "update.h"

namespace spos {

// The records that Python writes; every field is 64 bits wide. Their sizes are checked when the library is loaded.
struct Tensor {
  i64 height, width, channels;
  i64 row;       // floats from pixel to pixel
  i64 place;     // floats before it in the arena, for each image
  i64 gradient;  // the same of its gradient; -1 if it has none
  i64 affine;    // floats before its scale and shift; -1 if it holds what the next layer reads
  i64 act;       // behind scale and shift
};

struct Step {
  i64 kind;
  i64 from, to;           // tensors
  i64 weight;             // parameters from here on; -1 if there is none
  i64 gamma, beta;        // beta is the bias, where there is no gamma
  i64 mean, variance;     // where statistics go
  i64 kernel, idle;       // idle: taps on each side that meet no pixel, and are left out
  i64 stride;
  i64 column;             // of `to`, that a join writes from
  i64 beside;             // a tensor that is added; -1 if there is none
  i64 act;                // behind the sum
  i64 adds, adds_beside;  // whether other gradients of `from` and `beside` are there already
  i64 squeeze;            // parameters of the first of the two layers; -1 if there is none
  i64 squeezed;           // channels between them
  i64 kept;               // floats before what squeeze-and-excite keeps for backward, for each image
  i64 goes_on;            // whether `from` has a gradient
  i64 drops;              // row of the branch scales that a join multiplies by; -1 if there is none
};

struct Parameter {
  float* data;
  float* gradient;
  i64 row, column;  // floats from one output channel to the next, and from one input channel
  i64 adds;         // whether gradients are added to what is there
  i64 dirty_rows, dirty_columns;  // the corner of the gradient that is not zero; cleared when another one is written
};

enum Kind : i64 { kPointwise, kDepthwise, kDense, kJoin, kSplit, kPool };
enum Mode : i64 { kTrain, kCollect, kInfer };

constexpr i64 AFFINE_ROWS = 6;  // scale, shift, mean, 1/std, and of the gradient: slope of z, offset

using Floats = std::vector<float>;

float* reserve(Floats& memory, i64 count) {
  if (static_cast<i64>(memory.size()) < count) memory.resize(count);
  return memory.data();
}

// Memory that is kept, and grows without giving back the pages it has: a new page costs more than what is done with it.
class Arena {
 public:
  Arena() = default;
  Arena(Arena&& other) noexcept : memory_(other.memory_), bytes_(other.bytes_) {
    other.memory_ = nullptr;
    other.bytes_ = 0;
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena() { release(); }

  float* reserve(i64 count) {
    const i64 bytes = (count * static_cast<i64>(sizeof(float)) + kPage - 1) / kPage * kPage;
    if (bytes > bytes_) grow(bytes);
    return static_cast<float*>(memory_);
  }

 private:
  static constexpr i64 kPage = 2 << 20;

#if defined(__linux__)
  void grow(i64 bytes) {
    void* place = memory_ ? mremap(memory_, bytes_, bytes, MREMAP_MAYMOVE)
                          : mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) throw std::bad_alloc();
    memory_ = place;
    bytes_ = bytes;
    madvise(memory_, bytes_, MADV_HUGEPAGE);  // a wish
  }

  void release() {
    if (memory_) munmap(memory_, bytes_);
  }
#else
  void grow(i64 bytes) {
    release();
    memory_ = std::aligned_alloc(4096, bytes);
    bytes_ = memory_ ? bytes : 0;
    if (!memory_) throw std::bad_alloc();
  }

  void release() { std::free(memory_); }
#endif

  void* memory_ = nullptr;
  i64 bytes_ = 0;
};

struct Scratch {
  Floats input, gradient, output, windows, extra, means;
};

struct Packed {
  Floats right, back;  // for forward, and for the gradient of the input
};

class Session {
 public:
  explicit Session(int threads) : threads_(threads), scratch_(threads) {}

  void prepare(i64 mode, const Step* steps, i64 num_steps, const Tensor* tensors, i64 num_tensors,
               const Parameter* parameters, i64 num_parameters, i64 floats_per_image, i64 affine_floats, float epsilon,
               float momentum) {
    mode_ = mode;
    steps_.assign(steps, steps + num_steps);
    tensors_.assign(tensors, tensors + num_tensors);
    parameters_.assign(parameters, parameters + num_parameters);
    floats_per_image_ = floats_per_image;
    epsilon_ = epsilon;
    momentum_ = momentum;
    branch_scales_.clear();
    affine_.assign(affine_floats, 0.f);
    if (packed_.size() < steps_.size()) packed_.resize(steps_.size());
    threads_.share(num_steps, [&](i64 i, int) { pack_weights(steps_[i], packed_[i]); });
    if (mode == kInfer) set_statistics();
  }

  // Images (N, C, H, W) to what the last step gives, (N, channels). Scales: a row of N for each join that drops images;
  // none of them, and nothing is dropped.
  void forward(const float* images, i64 count, const float* branch_scales, i64 num_scales, float* result) {
    images_ = count;
    branch_scales_.assign(branch_scales, branch_scales + num_scales);
    Run run{this, arena_.reserve(floats_per_image_ * images_), images_, false};
    run.read_images(images);
    for (i64 i = 0; i < static_cast<i64>(steps_.size()); ++i) run.forward(i);
    run.give(result);
  }

  // The same with known statistics, a few images from the first to the last step at a time.
  void infer(const float* images, i64 count, i64 together, float* result) {
    const i64 pieces = (count + together - 1) / together;
    const Tensor& first = tensors_.front();
    const i64 pixels = first.height * first.width * first.channels, features = tensors_.back().channels;
    if (arenas_.size() < scratch_.size()) arenas_.resize(scratch_.size());
    for (Arena& arena : arenas_) arena.reserve(floats_per_image_ * together);
    threads_.share(pieces, [&](i64 piece, int thread) {
      const i64 start = piece * together;
      Run run{this, arenas_[thread].reserve(0), std::min(together, count - start), true, thread};
      run.read_images(images + start * pixels);
      for (i64 i = 0; i < static_cast<i64>(steps_.size()); ++i) run.forward(i);
      run.give(result + start * features);
    });
  }

  void backward(const float* of, const Parameter* parameters) {
    parameters_.assign(parameters, parameters + parameters_.size());
    Run run{this, arena_.reserve(floats_per_image_ * images_), images_, false};
    for (i64 i = static_cast<i64>(steps_.size()) - 1; i >= 0; --i) run.backward(i, of);
  }

  void update(const Corner* corners, i64 count, float momentum, float scale) {
    nesterov(threads_, corners, count, momentum, scale);
  }

  void update(const Corner* corners, i64 count, float kept, float kept_square, float scale) {
    adamw(threads_, corners, count, kept, kept_square, scale);
  }

  void move_averages(const Averaged* parameters, i64 count) { average(threads_, parameters, count); }

 private:
  struct Run;

  const float* vector(i64 parameter) const { return parameters_[parameter].data; }

  // Scale and shift from known statistics.
  void set_statistics() {
    for (const Step& step : steps_) {
      const Tensor& to = tensors_[step.to];
      if (step.kind > kDense) continue;
      const i64 width = padded(to.channels);
      float* affine = affine_.data() + to.affine;
      if (step.gamma < 0) {
        set_bias(step, affine, width);
        continue;
      }
      const float *gamma = vector(step.gamma), *beta = vector(step.beta);
      const float *mean = vector(step.mean), *variance = vector(step.variance);
      for (i64 c = 0; c < to.channels; ++c) {
        const double inv_std = 1.0 / std::sqrt(static_cast<double>(variance[c]) + epsilon_);
        scale_and_shift(affine + c, width, gamma[c] * inv_std, beta[c], mean[c]);
      }
    }
  }

  // BatchNorm as scale * z + shift. The shift is that of the rounded scale, or a large mean would magnify its error.
  static void scale_and_shift(float* to, i64 width, double scale, double beta, double mean) {
    to[0] = static_cast<float>(scale);
    to[width] = static_cast<float>(beta - static_cast<double>(to[0]) * mean);
  }

  void set_bias(const Step& step, float* affine, i64 width) const {
    for (i64 c = 0; c < tensors_[step.to].channels; ++c) {
      affine[c] = 1.f;
      affine[width + c] = step.beta >= 0 ? vector(step.beta)[c] : 0.f;
    }
  }

  i64 taps(const Step& step) const { return step.kernel - 2 * step.idle; }

  void pack_weights(const Step& step, Packed& packed) const {
    if (step.kind == kJoin && step.squeeze >= 0) return pack_squeeze(step, packed);
    if (step.kind > kDense) return;
    const Tensor &from = tensors_[step.from], &to = tensors_[step.to];
    const Parameter& weight = parameters_[step.weight];
    const i64 size = taps(step), in = from.channels, out = to.channels;
    const float* w = weight.data;
    const bool trains = mode_ == kTrain;
    const auto tap = [&](i64 t) { return (t / size + step.idle) * step.kernel + t % size + step.idle; };
    if (step.kind == kDepthwise) {
      const i64 width = padded(out);
      float* right = reserve(packed.right, size * size * width);
      float* back = reserve(packed.back, size * size * width);
      for (i64 t = 0; t < size * size; ++t)
        for (i64 c = 0; c < width; ++c) {
          const float value = c < out ? w[c * weight.row + tap(t)] : 0.f;
          right[t * width + c] = value;
          back[(step.stride == 1 ? size * size - 1 - t : t) * width + c] = value;
        }
      return;
    }
    const i64 depth = in * size * size;
    std::vector<i64> offsets(depth);  // of what a row of windows meets, in a filter
    for (i64 k = 0; k < depth; ++k) offsets[k] = k % in * weight.column + tap(k / in);
    pack(reserve(packed.right, depth * padded(out)), depth, out,
         [&](i64 k, i64 j) { return w[j * weight.row + offsets[k]]; });
    if (trains && step.goes_on)
      pack(reserve(packed.back, out * padded(depth)), out, depth,
           [&](i64 k, i64 j) { return w[k * weight.row + offsets[j]]; });
  }

  // Both matrices with a row for each squeezed channel.
  void pack_squeeze(const Step& step, Packed& packed) const {
    const i64 channels = tensors_[step.from].channels, width = padded(channels);
    const Parameter &first = parameters_[step.squeeze], &second = parameters_[step.squeeze + 2];
    float* right = reserve(packed.right, step.squeezed * width);
    float* back = reserve(packed.back, step.squeezed * width);
    for (i64 s = 0; s < step.squeezed; ++s)
      for (i64 c = 0; c < width; ++c) {
        right[s * width + c] = c < channels ? first.data[s * first.row + c * first.column] : 0.f;
        back[s * width + c] = c < channels ? second.data[c * second.row + s * second.column] : 0.f;
      }
  }

  // One execution of the steps on some images.
  struct Run {
    Session* session;
    float* memory;
    i64 images;
    bool serial;
    int own_thread = 0;

    const Tensor& tensor(i64 index) const { return session->tensors_[index]; }
    float* data(const Tensor& t) const { return memory + t.place * images; }
    float* gradient(const Tensor& t) const { return memory + t.gradient * images; }
    float* affine(const Tensor& t) const { return session->affine_.data() + t.affine; }
    i64 rows(const Tensor& t) const { return images * t.height * t.width; }
    bool is_lazy(const Tensor& t) const { return t.affine >= 0 && session->mode_ != kInfer; }

    template <class Work>
    void share(i64 pieces, Work work) const {
      if (serial) {
        for (i64 piece = 0; piece < pieces; ++piece) work(piece, session->scratch_[own_thread]);
        return;
      }
      session->threads_.share(pieces, [&](i64 piece, int thread) { work(piece, session->scratch_[thread]); });
    }

    // Rows that are worked on together: they fit in the cache, and there are pieces enough for many threads.
    static i64 rows_together(i64 rows) { return std::min<i64>(std::max<i64>(rows / 64 / MR * MR, 4 * MR), 20 * MR); }

    void read_images(const float* from) const {
      const Tensor& to = session->tensors_.front();
      const i64 pixels = to.height * to.width, channels = to.channels;
      float* x = data(to);
      share(images, [&](i64 n, Scratch&) {
        const float* image = from + n * channels * pixels;
        float* place = x + n * pixels * to.row;
        for (i64 c = 0; c < channels; ++c)
          for (i64 p = 0; p < pixels; ++p) place[p * to.row + c] = image[c * pixels + p];
      });
    }

    void give(float* result) const {
      const Tensor& last = session->tensors_.back();
      copy_rows(result, last.channels, data(last), last.row, images, last.channels);
    }

    void forward(i64 index) const {
      const Step& step = session->steps_[index];
      const Packed& packed = session->packed_[index];
      switch (step.kind) {
        case kPointwise: pointwise(step, packed); break;
        case kDepthwise: depthwise_step(step, packed); break;
        case kDense: dense(step, packed); break;
        case kJoin: join(step, packed); break;
        case kSplit: split(step); break;
        case kPool: pool(step); break;
      }
    }

    void backward(i64 index, const float* of) const {
      const Step& step = session->steps_[index];
      const Packed& packed = session->packed_[index];
      switch (step.kind) {
        case kPointwise: pointwise_back(step, packed); break;
        case kDepthwise: depthwise_step_back(step, packed); break;
        case kDense: dense_back(step, packed); break;
        case kJoin: join_back(step, packed); break;
        case kSplit: split_back(step); break;
        case kPool: pool_back(step, of); break;
      }
    }

    // --- what layers read and write ---

    // `count` rows of a tensor as the next layer reads them, and how far they are apart.
    const float* read(const Tensor& t, i64 first, i64 count, Floats& scratch, i64* row) const {
      const float* z = data(t) + first * t.row;
      *row = t.row;
      if (!is_lazy(t)) return z;
      const i64 width = padded(t.channels);
      *row = stride_of(t.channels);
      float* to = reserve(scratch, count * *row);
      normalise(to, *row, z, t.row, count, width, affine(t), affine(t) + width, t.act);
      return to;
    }

    // An image of a tensor with zeros around it.
    const float* read_padded(const Tensor& t, i64 image, i64 pad, Floats& scratch) const {
      const i64 width = padded(t.channels), line = (t.width + 2 * pad) * width;
      float* to = reserve(scratch, (t.height + 2 * pad) * line);
      clear_border(to, t.height, t.width, pad, width);
      const float* z = data(t) + image * t.height * t.width * t.row;
      for (i64 y = 0; y < t.height; ++y, z += t.width * t.row) {
        float* place = to + (y + pad) * line + pad * width;
        if (is_lazy(t))
          normalise(place, width, z, t.row, t.width, width, affine(t), affine(t) + width, t.act);
        else
          add_rows(place, width, z, t.row, t.width, width, false);
      }
      return to;
    }

    // What a layer does to its output while it is in the cache: its moments, or with known statistics all that is left.
    void finish_rows(const Step& step, const Tensor& t, float* z, i64 count, float* moments_of_piece) const {
      const i64 width = padded(t.channels);
      if (!is_lazy(t))
        normalise(z, t.row, z, t.row, count, width, affine(t), affine(t) + width, t.act);
      else if (step.gamma >= 0)
        moments(z, t.row, count, width, moments_of_piece, moments_of_piece + width);
    }

    float* pieces_of(const Tensor& t, i64 pieces) const {
      return serial ? nullptr : reserve(session->pieces_, pieces * 2 * padded(t.channels));
    }

    // Scale and shift from the moments of all pieces, which have `together` rows each, the last one what is left.
    void finish_statistics(const Step& step, const Tensor& t, i64 pieces, i64 together) const {
      if (!is_lazy(t)) return;
      const i64 width = padded(t.channels), total = rows(t);
      float* a = affine(t);
      if (step.gamma < 0) {
        session->set_bias(step, a, width);
        return;
      }
      std::vector<double> mean(width, 0.0), squares(width, 0.0);
      const float* of_piece = session->pieces_.data();
      double seen = 0;
      for (i64 piece = 0; piece < pieces; ++piece, of_piece += 2 * width) {
        const double count = static_cast<double>(std::min(together, total - piece * together));
        const double share = count / (seen + count), between = seen * share;
        for (i64 c = 0; c < width; ++c) {
          const double off = of_piece[c] - mean[c];
          mean[c] += off * share;
          squares[c] += of_piece[width + c] + off * off * between;
        }
        seen += count;
      }
      const float *gamma = session->vector(step.gamma), *beta = session->vector(step.beta);
      float* running_mean = session->parameters_[step.mean].data;
      float* running_variance = session->parameters_[step.variance].data;
      const float kept = session->mode_ == kTrain ? session->momentum_ : 0.f;
      for (i64 c = 0; c < t.channels; ++c) {
        const float middle = static_cast<float>(mean[c]), variance = static_cast<float>(squares[c] / seen);
        const double inv_std = 1.0 / std::sqrt(squares[c] / seen + session->epsilon_);
        scale_and_shift(a + c, width, gamma[c] * inv_std, beta[c], mean[c]);
        a[2 * width + c] = middle;
        a[3 * width + c] = static_cast<float>(inv_std);
        running_mean[c] = kept ? running_mean[c] * kept + middle * (1 - kept) : middle;
        running_variance[c] = kept ? running_variance[c] * kept + variance * (1 - kept) : variance;
      }
    }

    // Gradients of gamma, beta or bias from the sums of all pieces, and what the gradient in front of them is made of.
    void finish_sums(const Step& step, const Tensor& t, i64 pieces) const {
      const i64 width = padded(t.channels);
      std::vector<double> first(width, 0.0), second(width, 0.0);
      const float* of_piece = session->pieces_.data();
      for (i64 piece = 0; piece < pieces; ++piece, of_piece += 2 * width)
        for (i64 c = 0; c < width; ++c) {
          first[c] += of_piece[c];
          second[c] += of_piece[width + c];
        }
      float* a = affine(t);
      float *slope = a + 4 * width, *offset = a + 5 * width;
      if (step.gamma < 0) {
        if (step.beta >= 0) give_vector(step.beta, first.data(), t.channels);
        std::fill(slope, slope + 2 * width, 0.f);
        return;
      }
      const double count = static_cast<double>(rows(t));
      std::vector<double> of_gamma(width);
      for (i64 c = 0; c < width; ++c) {
        const double mean = a[2 * width + c], inv_std = a[3 * width + c], scale = a[c];
        of_gamma[c] = (second[c] - mean * first[c]) * inv_std;
        const double per_z = -scale * inv_std * of_gamma[c] / count;
        slope[c] = static_cast<float>(per_z);
        offset[c] = static_cast<float>(-scale * first[c] / count - per_z * mean);
      }
      give_vector(step.gamma, of_gamma.data(), t.channels);
      give_vector(step.beta, first.data(), t.channels);
    }

    void give_vector(i64 index, const double* values, i64 count) const {
      const Parameter& parameter = session->parameters_[index];
      float* to = parameter.gradient;
      if (!to) return;
      if (!parameter.adds)
        for (i64 c = count; c < parameter.dirty_rows; ++c) to[c] = 0.f;
      for (i64 c = 0; c < count; ++c) to[c] = static_cast<float>(parameter.adds ? to[c] + values[c] : values[c]);
    }

    // Zeros where an earlier path has left a gradient, outside of the corner of this one.
    static void clear_outside(const Parameter& parameter, i64 out, i64 in, i64 taps) {
      if (parameter.adds) return;
      for (i64 o = 0; o < parameter.dirty_rows; ++o)
        for (i64 i = o < out ? in : 0; i < parameter.dirty_columns; ++i)
          std::fill_n(parameter.gradient + o * parameter.row + i * parameter.column, taps, 0.f);
    }

    // A gradient value(row, column, tap) of a weight with all of its taps, of which the idle ones get nothing.
    template <class Value>
    void give_weight(const Step& step, i64 out, i64 in, Value value) const {
      const Parameter& parameter = session->parameters_[step.weight];
      if (!parameter.gradient) return;
      const i64 all = step.kernel * step.kernel, size = session->taps(step);
      const i64 out_pieces = std::min<i64>(out, 16), together = (out + out_pieces - 1) / out_pieces;
      clear_outside(parameter, out, in, all);
      std::vector<i64> taps(size * size);
      for (i64 t = 0; t < size * size; ++t) taps[t] = (t / size + step.idle) * step.kernel + t % size + step.idle;
      share(out_pieces, [&](i64 piece, Scratch&) {
        for (i64 o = piece * together; o < std::min(out, (piece + 1) * together); ++o) {
          float* to = parameter.gradient + o * parameter.row;
          if (step.idle && !parameter.adds)
            for (i64 i = 0; i < in; ++i) std::fill_n(to + i * parameter.column, all, 0.f);
          if (parameter.adds)
            for (i64 i = 0; i < in; ++i)
              for (i64 t = 0; t < size * size; ++t) to[i * parameter.column + taps[t]] += value(o, i, t);
          else if (all == 1)
            for (i64 i = 0; i < in; ++i) to[i] = value(o, i, 0);
          else
            for (i64 i = 0; i < in; ++i)
              for (i64 t = 0; t < size * size; ++t) to[i * parameter.column + taps[t]] = value(o, i, t);
        }
      });
    }

    // Pieces that add up weight gradients of their own; fewer where the weights are large beside the maps.
    static i64 groups(i64 weights, i64 floats, i64 pieces) {
      const i64 most = std::max<i64>(2, std::min<i64>(8, floats / std::max<i64>(weights, 1)));
      return std::min(most, pieces);
    }

    // Gradients of the sums over groups: `partial` of `size` floats each, all into the first.
    void add_groups(float* partial, i64 size, i64 count) const {
      if (count == 1) return;
      const i64 pieces = std::max<i64>(1, size / 4096), together = (size / VL + pieces - 1) / pieces * VL;
      share(pieces, [&](i64 piece, Scratch&) {
        const i64 end = std::min(size, (piece + 1) * together);
        for (i64 i = piece * together; i < end; i += VL) {
          vec total = load(partial + i);
          for (i64 group = 1; group < count; ++group) total += load(partial + group * size + i);
          store(partial + i, total);
        }
      });
    }

    // The gradient in front of BatchNorm, of `count` rows.
    i64 gradient_rows(const Tensor& t, i64 first, i64 count, float* to, i64 row) const {
      const i64 width = padded(t.channels);
      const float* a = affine(t);
      combine(to, row, gradient(t) + first * t.row, data(t) + first * t.row, t.row, count, width, a, a + 4 * width,
              a + 5 * width);
      return row;
    }

    // Takes the gradient of what was read from a tensor: (count rows) in `of`; sums of lazy tensors go to `sums`.
    void take(const Step& step, const Tensor& t, i64 first, i64 count, const float* of, i64 row, float* sums) const {
      const i64 width = padded(t.channels);
      float* to = gradient(t) + first * t.row;
      if (is_lazy(t))
        normalise_back(to, t.row, of, row, data(t) + first * t.row, t.row, count, width, affine(t),
                       affine(t) + width, t.act, sums);
      else
        add_rows(to, t.row, of, row, count, width, step.adds);
    }

    float* sums_of(const Tensor& t, i64 pieces) const { return reserve(session->sums_, pieces * 2 * padded(t.channels)); }

    // After all pieces have `take`n: the sums become those of the layer that made the tensor.
    void keep_sums(const Tensor& t, i64 pieces) const {
      if (!is_lazy(t)) return;
      session->pieces_.swap(session->sums_);
      session->num_pieces_ = pieces;
    }

    // --- pointwise convolutions ---

    void pointwise(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const i64 total = rows(to), together = serial ? 20 * MR : rows_together(total);
      const i64 pieces = (total + together - 1) / together, width = padded(to.channels);
      float* of_pieces = pieces_of(to, pieces);
      share(pieces, [&](i64 piece, Scratch& scratch) {
        const i64 first = piece * together, count = std::min(together, total - first);
        i64 row;
        const float* x = read(from, first, count, scratch.input, &row);
        float* z = data(to) + first * to.row;
        multiply(count, width, x, row, 1, {packed.right.data(), from.channels, 0}, z, to.row, false);
        finish_rows(step, to, z, count, of_pieces + piece * 2 * width);
      });
      finish_statistics(step, to, pieces, together);
    }

    void pointwise_back(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      finish_sums(step, to, session->num_pieces_);
      const i64 total = rows(to), together = rows_together(total), pieces = (total + together - 1) / together;
      const i64 in = padded(from.channels), out = padded(to.channels), size = to.channels * in;
      float* sums = sums_of(from, pieces);
      if (total * (in + out) < 8 * size) {
        rows_back(step, packed, pieces, together, sums);
        filters_back(step);
        if (step.goes_on) keep_sums(from, pieces);
        return;
      }
      const i64 count_groups = groups(size, total * (in + out), pieces);
      float* partial = reserve(session->partial_, count_groups * size);
      share(count_groups, [&](i64 group, Scratch& scratch) {
        float* own = partial + group * size;
        const i64 begin = group * pieces / count_groups, end = (group + 1) * pieces / count_groups;
        for (i64 piece = begin; piece < end; ++piece) {
          const i64 first = piece * together, count = std::min(together, total - first), row = stride_of(to.channels);
          float* dz = reserve(scratch.gradient, count * row);
          gradient_rows(to, first, count, dz, row);
          i64 row_x;
          const float* x = read(from, first, count, scratch.input, &row_x);
          multiply(to.channels, in, dz, 1, row, {x, count, row_x}, own, in, piece > begin);
          if (step.goes_on) input_back(step, packed, first, count, dz, row, scratch, sums + piece * 2 * in);
        }
      });
      add_groups(partial, size, count_groups);
      give_weight(step, to.channels, from.channels, [&](i64 o, i64 i, i64) { return partial[o * in + i]; });
      if (step.goes_on) keep_sums(from, pieces);
    }

    // The gradient of what a pointwise convolution reads, of some rows.
    void input_back(const Step& step, const Packed& packed, i64 first, i64 count, const float* dz, i64 row,
                    Scratch& scratch, float* sums) const {
      const Tensor& from = tensor(step.from);
      const i64 in = padded(from.channels);
      const Right back = {packed.back.data(), tensor(step.to).channels, 0};
      if (!is_lazy(from)) {
        multiply(count, in, dz, row, 1, back, gradient(from) + first * from.row, from.row, step.adds);
        return;
      }
      const i64 row_dx = stride_of(from.channels);
      float* dx = reserve(scratch.output, count * row_dx);
      multiply(count, in, dz, row, 1, back, dx, row_dx, false);
      take(step, from, first, count, dx, row_dx, sums);
    }

    // Where weights are many and rows few: all rows first, which keep what the filters need, and then filter by filter.
    void rows_back(const Step& step, const Packed& packed, i64 pieces, i64 together, float* sums) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const i64 total = rows(to), in = padded(from.channels);
      float* inputs = is_lazy(from) ? reserve(session->inputs_, total * stride_of(from.channels)) : nullptr;
      share(pieces, [&](i64 piece, Scratch& scratch) {
        const i64 first = piece * together, count = std::min(together, total - first);
        float* dz = gradient(to) + first * to.row;
        gradient_rows(to, first, count, dz, to.row);
        if (inputs) {
          const i64 row = stride_of(from.channels);
          normalise(inputs + first * row, row, data(from) + first * from.row, from.row, count, in, affine(from),
                    affine(from) + in, from.act);
        }
        if (step.goes_on) input_back(step, packed, first, count, dz, to.row, scratch, sums + piece * 2 * in);
      });
    }

    void filters_back(const Step& step) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const Parameter& weight = session->parameters_[step.weight];
      if (!weight.gradient) return;
      const i64 total = rows(to), in = padded(from.channels), together = 2 * MR;
      const i64 row_x = is_lazy(from) ? stride_of(from.channels) : from.row;
      const float* x = is_lazy(from) ? session->inputs_.data() : data(from);
      clear_outside(weight, to.channels, from.channels, 1);
      share((to.channels + together - 1) / together, [&](i64 piece, Scratch& scratch) {
        const i64 first = piece * together, count = std::min(together, to.channels - first);
        float* of = reserve(scratch.output, count * in);
        multiply(count, in, gradient(to) + first, 1, to.row, {x, total, row_x}, of, in, false);
        for (i64 o = 0; o < count; ++o) {
          float* place = weight.gradient + (first + o) * weight.row;
          for (i64 i = 0; i < from.channels; ++i)
            place[i] = weight.adds ? place[i] + of[o * in + i] : of[o * in + i];
        }
      });
    }

    // --- depthwise convolutions ---

    Window window(const Step& step) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const i64 size = session->taps(step);
      return {from.height, from.width, to.height, to.width, size, step.stride, size / 2};
    }

    void depthwise_step(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const Window w = window(step);
      const i64 width = padded(to.channels), pixels = to.height * to.width;
      float* of_pieces = pieces_of(to, images);
      share(images, [&](i64 image, Scratch& scratch) {
        const float* x = read_padded(from, image, w.pad, scratch.input);
        float* z = data(to) + image * pixels * to.row;
        depthwise(w, width, x, packed.right.data(), z, to.row);
        finish_rows(step, to, z, pixels, of_pieces + image * 2 * width);
      });
      finish_statistics(step, to, images, pixels);
    }

    void depthwise_step_back(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      finish_sums(step, to, session->num_pieces_);
      const Window w = window(step);
      const i64 width = padded(to.channels), pixels = to.height * to.width, size = w.kernel * w.kernel * width;
      const i64 in_pixels = from.height * from.width, count_groups = groups(size, images * pixels * width, images);
      float* partial = reserve(session->partial_, count_groups * size);
      float* sums = sums_of(from, images);
      const bool flips = step.stride == 1;
      const i64 pad = flips ? w.pad : 0, line = (to.width + 2 * pad) * width;
      share(count_groups, [&](i64 group, Scratch& scratch) {
        float* own = partial + group * size;
        std::fill_n(own, size, 0.f);
        const i64 end = (group + 1) * images / count_groups;
        for (i64 image = group * images / count_groups; image < end; ++image) {
          float* dz = reserve(scratch.gradient, (to.height + 2 * pad) * line);
          if (pad) clear_border(dz, to.height, to.width, pad, width);
          float* inside = dz + pad * line + pad * width;
          for (i64 y = 0; y < to.height; ++y)
            gradient_rows(to, image * pixels + y * to.width, to.width, inside + y * line, width);
          const float* x = read_padded(from, image, w.pad, scratch.input);
          depthwise_weights(w, width, x, inside, width, line, own);
          if (!step.goes_on) continue;
          if (flips) {
            float* dx = reserve(scratch.output, in_pixels * width);
            const Window turned = {to.height, to.width, from.height, from.width, w.kernel, 1, w.pad};
            depthwise(turned, width, dz, packed.back.data(), dx, width);
            take(step, from, image * in_pixels, in_pixels, dx, width, sums + image * 2 * width);
            continue;
          }
          float* around = reserve(scratch.output, w.padded_height() * w.padded_width() * width);
          depthwise_back(w, width, dz, packed.back.data(), around);
          float* dx = reserve(scratch.extra, in_pixels * width);
          for (i64 y = 0; y < from.height; ++y)
            std::memcpy(dx + y * from.width * width, around + ((y + w.pad) * w.padded_width() + w.pad) * width,
                        from.width * width * sizeof(float));
          take(step, from, image * in_pixels, in_pixels, dx, width, sums + image * 2 * width);
        }
      });
      add_groups(partial, size, count_groups);
      give_weight(step, to.channels, 1, [&](i64 o, i64, i64 t) { return partial[t * width + o]; });
      if (step.goes_on) keep_sums(from, images);
    }

    // --- dense convolutions, as products with the windows of their pixels ---

    static i64 lines_together(const Window& w, i64 depth) {
      return std::max<i64>(1, std::min(w.out_height, 65536 / (depth * w.out_width)));
    }

    void dense(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const Window w = window(step);
      const i64 depth = w.kernel * w.kernel * from.channels, row = stride_of(depth), width = padded(to.channels);
      const i64 pixels = to.height * to.width, in_pixels = from.height * from.width;
      const i64 lines = lines_together(w, row);
      float* of_pieces = pieces_of(to, images);
      share(images, [&](i64 image, Scratch& scratch) {
        i64 row_x;
        const float* x = read(from, image * in_pixels, in_pixels, scratch.input, &row_x);
        float* z = data(to) + image * pixels * to.row;
        for (i64 y = 0; y < to.height; y += lines) {
          const i64 last = std::min(y + lines, to.height), count = (last - y) * to.width;
          float* windows = reserve(scratch.windows, count * row);
          gather_windows(w, from.channels, x, row_x, y, last, windows, row);
          multiply(count, width, windows, row, 1, {packed.right.data(), depth, 0}, z + y * to.width * to.row, to.row,
                   false);
        }
        finish_rows(step, to, z, pixels, of_pieces + image * 2 * width);
      });
      finish_statistics(step, to, images, pixels);
    }

    void dense_back(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      finish_sums(step, to, session->num_pieces_);
      const Window w = window(step);
      const i64 depth = w.kernel * w.kernel * from.channels, row_w = stride_of(depth), columns = padded(depth);
      const i64 pixels = to.height * to.width, in_pixels = from.height * from.width, row = stride_of(to.channels);
      const i64 size = to.channels * columns, lines = lines_together(w, row_w), in = padded(from.channels);
      const i64 count_groups = groups(size, images * pixels * columns, images);
      float* partial = reserve(session->partial_, count_groups * size);
      float* sums = sums_of(from, images);
      share(count_groups, [&](i64 group, Scratch& scratch) {
        float* own = partial + group * size;
        bool adds = false;
        const i64 end = (group + 1) * images / count_groups;
        for (i64 image = group * images / count_groups; image < end; ++image) {
          float* dz = reserve(scratch.gradient, pixels * row);
          gradient_rows(to, image * pixels, pixels, dz, row);
          i64 row_x;
          const float* x = read(from, image * in_pixels, in_pixels, scratch.input, &row_x);
          float* dx = nullptr;
          if (step.goes_on) {
            dx = reserve(scratch.output, in_pixels * in);
            std::memset(dx, 0, in_pixels * in * sizeof(float));
          }
          for (i64 y = 0; y < to.height; y += lines) {
            const i64 last = std::min(y + lines, to.height), count = (last - y) * to.width;
            const float* of = dz + y * to.width * row;
            float* windows = reserve(scratch.windows, count * row_w);
            gather_windows(w, from.channels, x, row_x, y, last, windows, row_w);
            multiply(to.channels, columns, of, 1, row, {windows, count, row_w}, own, columns, adds);
            adds = true;
            if (!step.goes_on) continue;
            multiply(count, columns, of, row, 1, {packed.back.data(), to.channels, 0}, windows, row_w, false);
            scatter_windows(w, from.channels, windows, row_w, y, last, dx, in);
          }
          if (step.goes_on) take(step, from, image * in_pixels, in_pixels, dx, in, sums + image * 2 * in);
        }
      });
      add_groups(partial, size, count_groups);
      give_weight(step, to.channels, from.channels,
                  [&](i64 o, i64 i, i64 t) { return partial[o * columns + t * from.channels + i]; });
      if (step.goes_on) keep_sums(from, images);
    }

    // --- the end of a branch: squeeze-and-excite, sum, and the place among the channels of the block ---

    i64 kept_floats(const Step& step, i64 width) const { return 2 * width + padded(step.squeezed); }

    void join(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const i64 width = padded(from.channels), pixels = to.height * to.width;
      share(images, [&](i64 image, Scratch& scratch) {
        i64 row;
        const float* y = read(from, image * pixels, pixels, scratch.input, &row);
        float* place = data(to) + image * pixels * to.row + step.column;
        if (step.squeeze < 0 && step.beside < 0) {
          copy_rows(place, to.row, y, row, pixels, from.channels);
        } else {
          float* result = reserve(scratch.output, pixels * width);
          const float* gate = nullptr;
          if (step.squeeze >= 0)
            gate = open_gate(step, packed, y, row, pixels, width, kept_of(step, image, width, scratch));
          combine_beside(step, image, pixels, y, row, width, gate, result);
          with_act(step.act, [&](auto a) {
            for (i64 i = 0; i < pixels * width; i += VL) store(result + i, activate<a.value>(load(result + i)));
          });
          copy_rows(place, to.row, result, width, pixels, from.channels);
        }
        const i64 end = step.column + from.channels;
        if (end == to.channels && padded(end) > end)
          for (i64 p = 0; p < pixels; ++p) std::fill(place + p * to.row + from.channels,
                                                     place + p * to.row - step.column + padded(end), 0.f);
      });
    }

    float* kept_of(const Step& step, i64 image, i64 width, Scratch& scratch) const {
      if (session->mode_ == kInfer) return reserve(scratch.means, kept_floats(step, width));
      return memory + step.kept * images + image * kept_floats(step, width);
    }

    // What stochastic depth multiplies an image's branch by: 0, or what makes up for those that are left out.
    float branch_scale(const Step& step, i64 image) const {
      const Floats& scales = session->branch_scales_;
      return step.drops < 0 || scales.empty() ? 1.f : scales[step.drops * images + image];
    }

    // result = y * gate * scale + what is beside it
    void combine_beside(const Step& step, i64 image, i64 pixels, const float* y, i64 row, i64 width, const float* gate,
                        float* result) const {
      const Tensor* beside = step.beside >= 0 ? &tensor(step.beside) : nullptr;
      const float* other = beside ? data(*beside) + image * pixels * beside->row : nullptr;
      const float scale = branch_scale(step, image);
      for (i64 p = 0; p < pixels; ++p, y += row, result += width)
        for (i64 c = 0; c < width; c += VL) {
          vec value = load(y + c);
          if (gate) value *= load(gate + c);
          if (scale != 1.f) value *= scale;
          if (other) value += load(other + p * beside->row + c);
          store(result + c, value);
        }
    }

    // The gates of an image's channels; means, gates and the squeezed layer are kept.
    const float* open_gate(const Step& step, const Packed& packed, const float* y, i64 row, i64 pixels, i64 width,
                           float* kept) const {
      float *mean = kept, *gate = kept + width, *squeezed = kept + 2 * width;
      const float share_of = 1.f / static_cast<float>(pixels);
      for (i64 c = 0; c < width; c += VL) {
        vec total = {};
        for (i64 p = 0; p < pixels; ++p) total += load(y + p * row + c);
        store(mean + c, total * share_of);
        store(gate + c, vec{});
      }
      const Parameter *first = &session->parameters_[step.squeeze + 1], *second = first + 2;
      for (i64 c = 0; c < tensor(step.from).channels; ++c) gate[c] = second->data[c];
      for (i64 s = 0; s < step.squeezed; ++s) {
        const float *right = packed.right.data() + s * width, *back = packed.back.data() + s * width;
        vec total = {};
        for (i64 c = 0; c < width; c += VL) total += load(right + c) * load(mean + c);
        const float value = std::max(0.f, sum(total) + first->data[s]);
        squeezed[s] = value;
        for (i64 c = 0; c < width; c += VL) store(gate + c, load(gate + c) + value * load(back + c));
      }
      for (i64 c = 0; c < width; c += VL)
        store(gate + c, smaller(larger(load(gate + c) * (1.f / 6.f) + 0.5f, vec{}), spread(1.f)));
      return gate;
    }

    void join_back(const Step& step, const Packed& packed) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const i64 width = padded(from.channels), pixels = to.height * to.width;
      float* sums = sums_of(from, images);
      const Tensor* beside = step.beside >= 0 ? &tensor(step.beside) : nullptr;
      const i64 kept = kept_floats(step, width);
      float* of_gates = step.squeeze >= 0 ? reserve(session->partial_, images * kept) : nullptr;
      share(images, [&](i64 image, Scratch& scratch) {
        float* of = reserve(scratch.gradient, pixels * width);
        if (width != from.channels) fill_rows(of, width, pixels, width);
        copy_rows(of, width, gradient(to) + image * pixels * to.row + step.column, to.row, pixels, from.channels);
        i64 row;
        const float* y = read(from, image * pixels, pixels, scratch.input, &row);
        float* own = step.squeeze >= 0 ? memory + step.kept * images + image * kept : nullptr;
        if (step.act != kNone) {
          float* total = reserve(scratch.output, pixels * width);
          combine_beside(step, image, pixels, y, row, width, own ? own + width : nullptr, total);
          with_act(step.act, [&](auto a) {
            for (i64 i = 0; i < pixels * width; i += VL)
              store(of + i, pass_back<a.value>(load(total + i), load(of + i)));
          });
        }
        if (beside)
          add_rows(gradient(*beside) + image * pixels * beside->row, beside->row, of, width, pixels, width,
                   step.adds_beside);
        const float scale = branch_scale(step, image);
        if (scale != 1.f)
          for (i64 i = 0; i < pixels * width; i += VL) store(of + i, load(of + i) * scale);
        if (own) close_gate(step, packed, y, row, pixels, width, own, of_gates + image * kept, of);
        take(step, from, image * pixels, pixels, of, width, sums + image * 2 * width);
      });
      if (step.squeeze >= 0) give_squeeze(step, width, kept, of_gates);
      keep_sums(from, images);
    }

    // From the gradient of the gated map to that of the map, in place; gradients of gates, squeezed layer to `of_gate`.
    void close_gate(const Step& step, const Packed& packed, const float* y, i64 row, i64 pixels, i64 width,
                    const float* kept, float* of_gate, float* of) const {
      const float *gate = kept + width, *squeezed = kept + 2 * width;
      float *of_mean = of_gate, *of_input = of_gate + width, *of_squeezed = of_gate + 2 * width;
      for (i64 c = 0; c < width; c += VL) {
        vec total = {};
        for (i64 p = 0; p < pixels; ++p) total += load(y + p * row + c) * load(of + p * width + c);
        const vec g = load(gate + c), zero = {};
        const vec slope = g > zero ? (g < spread(1.f) ? total * (1.f / 6.f) : zero) : zero;
        store(of_input + c, slope);
        store(of_mean + c, zero);
      }
      for (i64 s = 0; s < step.squeezed; ++s) {
        const float *right = packed.right.data() + s * width, *back = packed.back.data() + s * width;
        vec total = {};
        for (i64 c = 0; c < width; c += VL) total += load(back + c) * load(of_input + c);
        const float value = squeezed[s] > 0 ? sum(total) : 0.f;
        of_squeezed[s] = value;
        if (value != 0)
          for (i64 c = 0; c < width; c += VL) store(of_mean + c, load(of_mean + c) + value * load(right + c));
      }
      const float share_of = 1.f / static_cast<float>(pixels);
      for (i64 p = 0; p < pixels; ++p, of += width)
        for (i64 c = 0; c < width; c += VL)
          store(of + c, load(of + c) * load(gate + c) + load(of_mean + c) * share_of);
    }

    void give_squeeze(const Step& step, i64 width, i64 kept, const float* of_gates) const {
      const i64 channels = tensor(step.from).channels, squeezed = step.squeezed;
      std::vector<double> of_first(squeezed, 0.0), of_second(channels, 0.0);
      Floats first(squeezed * width, 0.f), second(squeezed * width, 0.f);
      for (i64 image = 0; image < images; ++image) {
        const float* of = of_gates + image * kept;
        const float* own = memory + step.kept * images + image * kept;
        for (i64 c = 0; c < channels; ++c) of_second[c] += of[width + c];
        for (i64 s = 0; s < squeezed; ++s) {
          const float gradient_s = of[2 * width + s], value = own[2 * width + s];
          of_first[s] += gradient_s;
          for (i64 c = 0; c < width; c += VL) {
            float *one = first.data() + s * width + c, *two = second.data() + s * width + c;
            store(one, load(one) + gradient_s * load(own + c));
            store(two, load(two) + value * load(of + width + c));
          }
        }
      }
      give_matrix(step.squeeze, squeezed, channels, [&](i64 o, i64 i) { return first[o * width + i]; });
      give_vector(step.squeeze + 1, of_first.data(), squeezed);
      give_matrix(step.squeeze + 2, channels, squeezed, [&](i64 o, i64 i) { return second[i * width + o]; });
      give_vector(step.squeeze + 3, of_second.data(), channels);
    }

    template <class Value>
    void give_matrix(i64 index, i64 out, i64 in, Value value) const {
      const Parameter& parameter = session->parameters_[index];
      if (!parameter.gradient) return;
      clear_outside(parameter, out, in, 1);
      for (i64 o = 0; o < out; ++o)
        for (i64 i = 0; i < in; ++i) {
          float& place = parameter.gradient[o * parameter.row + i * parameter.column];
          place = parameter.adds ? place + value(o, i) : value(o, i);
        }
    }

    // --- channel shuffle and split: `beside` is the block's output, whose first half passes by ---

    void split(const Step& step) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to), &by = tensor(step.beside);
      const i64 pixels = from.height * from.width, half = from.channels / 2, width = padded(half);
      share(images, [&](i64 image, Scratch&) {
        const float* x = data(from) + image * pixels * from.row;
        float *passes = data(by) + image * pixels * by.row, *main = data(to) + image * pixels * to.row;
        for (i64 p = 0; p < pixels; ++p, x += from.row, passes += by.row, main += to.row) {
          shuffle_row(x, half, passes, main);
          for (i64 c = half; c < width; ++c) main[c] = 0.f;
        }
      });
    }

    static void shuffle_row(const float* x, i64 half, float* passes, float* main) {
      const i64 pairs = half / 2;
      interleave(passes, x, x + half, pairs);
      if (half % 2) passes[half - 1] = x[pairs];
      const float *first = x + pairs, *second = x + half + pairs;
      if (half % 2) {  // the pair in the middle is cut
        *main++ = *second++;
        ++first;
      }
      interleave(main, first, second, pairs);
    }

    void split_back(const Step& step) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to), &by = tensor(step.beside);
      const i64 pixels = from.height * from.width, half = from.channels / 2, pairs = half / 2;
      share(images, [&](i64 image, Scratch&) {
        float* x = gradient(from) + image * pixels * from.row;
        const float *passes = gradient(by) + image * pixels * by.row, *main = gradient(to) + image * pixels * to.row;
        for (i64 p = 0; p < pixels; ++p, x += from.row, passes += by.row, main += to.row) {
          separate(passes, x, x + half, pairs, step.adds);
          const float* rest = main;
          float *first = x + pairs, *second = x + half + pairs;
          if (half % 2) {
            *first = passes[half - 1] + (step.adds ? *first : 0.f);
            *second = *rest++ + (step.adds ? *second : 0.f);
            ++first, ++second;
          }
          separate(rest, first, second, pairs, step.adds);
          if (!step.adds)
            for (i64 c = 2 * half; c < padded(2 * half); ++c) x[c] = 0.f;
        }
      });
    }

    // --- global average pooling ---

    void pool(const Step& step) const {
      const Tensor &from = tensor(step.from), &to = tensor(step.to);
      const i64 pixels = from.height * from.width, width = padded(from.channels);
      share(images, [&](i64 image, Scratch& scratch) {
        i64 row;
        const float* y = read(from, image * pixels, pixels, scratch.input, &row);
        for (i64 c = 0; c < width; c += VL) {
          vec total = {};
          for (i64 p = 0; p < pixels; ++p) total += load(y + p * row + c);
          store(data(to) + image * to.row + c, total * (1.f / static_cast<float>(pixels)));
        }
      });
    }

    void pool_back(const Step& step, const float* of) const {
      const Tensor& from = tensor(step.from);
      const i64 pixels = from.height * from.width, width = padded(from.channels);
      float* sums = sums_of(from, images);
      share(images, [&](i64 image, Scratch& scratch) {
        float* spread_of = reserve(scratch.output, pixels * width);
        const float share_of = 1.f / static_cast<float>(pixels);
        for (i64 p = 0; p < pixels; ++p)
          for (i64 c = 0; c < width; ++c)
            spread_of[p * width + c] = c < from.channels ? of[image * from.channels + c] * share_of : 0.f;
        take(step, from, image * pixels, pixels, spread_of, width, sums + image * 2 * width);
      });
      keep_sums(from, images);
    }
  };

  Threads threads_;
  i64 mode_ = kTrain, images_ = 0, floats_per_image_ = 0, num_pieces_ = 0;
  float epsilon_ = 0, momentum_ = 0;
  std::vector<Step> steps_;
  std::vector<Tensor> tensors_;
  std::vector<Parameter> parameters_;
  std::vector<Packed> packed_;
  std::vector<Scratch> scratch_;
  std::vector<Arena> arenas_;
  Arena arena_;
  Floats affine_, pieces_, sums_, partial_, inputs_, branch_scales_;
};

}  // namespace spos

// --- for Python ---

namespace {

thread_local std::string last_error;

template <class Work>
int guarded(Work work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

}  // namespace

extern "C" {

using spos::i64;

// Sizes of the records in 64-bit fields, and the floats of an affine block for each padded channel.
void spos_sizes(i64* sizes) {
  sizes[0] = sizeof(spos::Step) / 8;
  sizes[1] = sizeof(spos::Tensor) / 8;
  sizes[2] = sizeof(spos::Parameter) / 8;
  sizes[3] = spos::AFFINE_ROWS;
  sizes[4] = sizeof(spos::Corner) / 8;
  sizes[5] = sizeof(spos::Averaged) / 8;
}

const char* spos_last_error() { return last_error.c_str(); }

void* spos_new(int threads) {
  void* session = nullptr;
  guarded([&] { session = new spos::Session(threads); });
  return session;
}

void spos_delete(void* session) { delete static_cast<spos::Session*>(session); }

int spos_prepare(void* session, i64 mode, const i64* steps, i64 num_steps, const i64* tensors,
                 i64 num_tensors, const i64* parameters, i64 num_parameters, i64 floats_per_image, i64 affine_floats,
                 float epsilon, float momentum) {
  return guarded([&] {
    static_cast<spos::Session*>(session)->prepare(
        mode, reinterpret_cast<const spos::Step*>(steps), num_steps,
        reinterpret_cast<const spos::Tensor*>(tensors), num_tensors,
        reinterpret_cast<const spos::Parameter*>(parameters), num_parameters, floats_per_image, affine_floats, epsilon,
        momentum);
  });
}

int spos_forward(void* session, const float* images, i64 count, const float* branch_scales, i64 num_scales,
                 float* result) {
  return guarded([&] {
    static_cast<spos::Session*>(session)->forward(images, count, branch_scales, num_scales, result);
  });
}

int spos_backward(void* session, const float* of, const i64* parameters) {
  return guarded([&] {
    static_cast<spos::Session*>(session)->backward(of, reinterpret_cast<const spos::Parameter*>(parameters));
  });
}

int spos_nesterov(void* session, const void* corners, i64 count, float momentum, float scale) {
  return guarded([&] {
    static_cast<spos::Session*>(session)->update(static_cast<const spos::Corner*>(corners), count, momentum, scale);
  });
}

int spos_adamw(void* session, const void* corners, i64 count, float kept, float kept_square, float scale) {
  return guarded([&] {
    static_cast<spos::Session*>(session)->update(static_cast<const spos::Corner*>(corners), count, kept, kept_square,
                                                 scale);
  });
}

int spos_average(void* session, const void* parameters, i64 count) {
  return guarded([&] {
    static_cast<spos::Session*>(session)->move_averages(static_cast<const spos::Averaged*>(parameters), count);
  });
}

int spos_infer(void* session, const float* images, i64 count, i64 together, float* result) {
  return guarded([&] { static_cast<spos::Session*>(session)->infer(images, count, together, result); });
}
}
