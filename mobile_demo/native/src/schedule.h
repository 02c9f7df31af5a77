// Learning rates by update, specified bit by bit in runtime_py/effine/runtime/schedule.py.
#pragma once

#include <cstdint>
#include <string>

namespace effine {

bool is_schedule(const std::string& name);

float rate(const std::string& schedule, double peak, int64_t update, int64_t total,
           double warmup);

// The cosine of pi * p for p from 0 to 1.
double cos_pi(double p);

}  // namespace effine
