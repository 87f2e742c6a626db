// The optimizer's step on the corners of many parameters at once, and the moving average of parameters.
#pragma once

#include <cmath>

#include "threads.h"

namespace spos {

// A corner of a parameter: rows of floats, `stride` apart, in all of its arrays.
struct Corner {
  float* weight;
  const float* gradient;
  float* momentum;
  float* square;  // of AdamW
  std::int64_t rows, length, stride;
  double rate, decay;
  double correction, epsilon;  // of AdamW
};

// As MXNet's nag_mom_update, bit by bit: every product and sum is rounded by itself, and what stays in the momentum
// is made with the decay of the weight that was just moved (docs/mxnet.md).
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("fp-contract=off"), noinline))
#endif
inline void nesterov_row(float* __restrict weight, const float* __restrict gradient, float* __restrict momentum,
                         std::int64_t length, float rate, float decay, float kept, float scale) {
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
  for (std::int64_t i = 0; i < length; ++i) {
    const float scaled = scale * gradient[i], before = kept * momentum[i];
    const float next = before - rate * (scaled + decay * weight[i]);
    const float moved = weight[i] - before + (1.f + kept) * next;
    weight[i] = moved;
    momentum[i] = before - rate * (scaled + decay * moved);
  }
}

// As MXNet's adamw_update, bit by bit.
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("fp-contract=off"), noinline))
#endif
inline void adamw_row(float* __restrict weight, const float* __restrict gradient, float* __restrict mean,
                      float* __restrict square, std::int64_t length, float rate, float decay, float correction,
                      float epsilon, float kept, float kept_square, float scale) {
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
  for (std::int64_t i = 0; i < length; ++i) {
    const float scaled = scale * gradient[i];
    mean[i] = kept * mean[i] + (1.f - kept) * scaled;
    square[i] = kept_square * square[i] + (1.f - kept_square) * (scaled * scaled);
    weight[i] -= rate * (correction * mean[i] / (std::sqrt(square[i]) + epsilon) + decay * weight[i]);
  }
}

// Calls `step` for every row, with the floats before it.
template <class Step>
void for_each_row(Threads& threads, const Corner* corners, std::int64_t count, Step step) {
  threads.share(count, [&](std::int64_t index, int) {
    const Corner& one = corners[index];
    for (std::int64_t row = 0; row < one.rows; ++row) step(one, row * one.stride);
  });
}

inline void nesterov(Threads& threads, const Corner* corners, std::int64_t count, float kept, float scale) {
  for_each_row(threads, corners, count, [&](const Corner& one, std::int64_t place) {
    nesterov_row(one.weight + place, one.gradient + place, one.momentum + place, one.length,
                 static_cast<float>(one.rate), static_cast<float>(one.decay), kept, scale);
  });
}

inline void adamw(Threads& threads, const Corner* corners, std::int64_t count, float kept, float kept_square,
                  float scale) {
  for_each_row(threads, corners, count, [&](const Corner& one, std::int64_t place) {
    adamw_row(one.weight + place, one.gradient + place, one.momentum + place, one.square + place, one.length,
              static_cast<float>(one.rate), static_cast<float>(one.decay), static_cast<float>(one.correction),
              static_cast<float>(one.epsilon), kept, kept_square, scale);
  });
}

// A parameter with its average, `length` floats each.
struct Averaged {
  float* average;
  const float* value;
  std::int64_t length;
  double share;  // of the way to the value that the average goes
};

// As MXNet's sgd_update makes it of the difference, bit by bit.
#if defined(__GNUC__) && !defined(__clang__)
__attribute__((optimize("fp-contract=off"), noinline))
#endif
inline void average_row(float* __restrict average, const float* __restrict value, std::int64_t length, float share) {
#if defined(__clang__)
#pragma clang fp contract(off)
#endif
  for (std::int64_t i = 0; i < length; ++i) {
    const float away = average[i] - value[i];
    average[i] = average[i] - share * away;
  }
}

inline void average(Threads& threads, const Averaged* parameters, std::int64_t count) {
  threads.share(count, [&](std::int64_t index, int) {
    const Averaged& one = parameters[index];
    average_row(one.average, one.value, one.length, static_cast<float>(one.share));
  });
}

}  // namespace spos
