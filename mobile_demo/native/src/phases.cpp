#include "phases.h"

#include <algorithm>
#include <set>

#include "artifact.h"

namespace effine {
namespace {

std::vector<Rows> parse_rows(const Json& json) {
  std::vector<Rows> rows;
  for (const Json& item : json.array()) {
    rows.push_back({item.at("source").string(), item.at("target").string(),
                    item.at("indices").string(), size_t(item.at("axis").natural())});
  }
  return rows;
}

// A tensor as `outer` blocks of `rows` rows of `size` bytes along an axis.
struct Blocks {
  size_t outer, rows, size;

  Blocks(const Tensor& tensor, size_t axis)
      : outer(1), rows(size_t(tensor.shape.at(axis))), size(size_of(tensor.dtype)) {
    for (size_t i = axis + 1; i < tensor.shape.size(); ++i) size *= size_t(tensor.shape[i]);
    outer = tensor.data.size() / (rows * size);
  }
};

// Copies row `from(i)` of the source to row `to(i)` of the target, for all i below `count`.
template <typename From, typename To>
void copy_rows(const Tensor& source, Tensor& target, const Rows& rows, size_t count, From from,
               To to) {
  const Blocks in(source, rows.axis), out(target, rows.axis);
  if (source.dtype != target.dtype || in.size != out.size || in.outer != out.outer) {
    throw Error(rows.source + " and " + rows.target + " don't have the same rows");
  }
  for (size_t i = 0; i < count; ++i) {
    if (from(i) >= in.rows || to(i) >= out.rows) {
      throw Error(rows.indices + " has an index beyond the rows of " + rows.source);
    }
    for (size_t block = 0; block < in.outer; ++block) {
      std::copy_n(source.data.begin() + int64_t((block * in.rows + from(i)) * in.size), in.size,
                  target.data.begin() + int64_t((block * out.rows + to(i)) * out.size));
    }
  }
}

const std::vector<int64_t>& chosen(const RowSets& rows, const std::string& name) {
  const auto found = rows.find(name);
  if (found == rows.end()) throw Error("the rows " + name + " are not given");
  return found->second;
}

Tensor gathered(const Tensor& source, const Rows& rows, const std::vector<int64_t>& indices) {
  Shape shape = source.shape;
  shape.at(rows.axis) = int64_t(indices.size());
  Tensor target(source.dtype, shape);
  copy_rows(
      source, target, rows, indices.size(), [&](size_t i) { return size_t(indices[i]); },
      [](size_t i) { return i; });
  return target;
}

void scatter(const Tensor& source, Tensor& target, const Rows& rows,
             const std::vector<int64_t>& indices) {
  if (source.shape.at(rows.axis) != int64_t(indices.size())) {
    throw Error(rows.indices + " has another count of indices than " + rows.source + " of rows");
  }
  copy_rows(
      source, target, rows, indices.size(), [](size_t i) { return i; },
      [&](size_t i) { return size_t(indices[i]); });
}

}  // namespace

bool Transition::zeroes(const std::string& role) const {
  return std::find(zero.begin(), zero.end(), role) != zero.end();
}

std::vector<Transition> parse_transitions(const Json& json) {
  std::vector<Transition> transitions;
  for (const Json& item : json.array()) {
    transitions.push_back({strings(item.at("sources")), item.at("target").string(),
                           strings(item.at("zero")), parse_rows(item.at("gather")),
                           parse_rows(item.at("scatter"))});
  }
  return transitions;
}

void check_makeable(const Transition& transition, const std::vector<Value>& before,
                    const std::vector<Value>& after) {
  std::map<std::string, Shape> shapes;
  for (const Value& value : before) shapes.emplace(value.name, value.shape);
  std::set<std::string> known, made;
  for (const Value& value : after) known.insert(value.name);
  const auto check = [&](const std::string& name, bool there) {
    if (there) return;
    throw Error("phase " + transition.target + " can't be made: it lacks " + name + " as needed");
  };
  for (const auto* rows : {&transition.gather, &transition.scatter}) {
    for (const Rows& row : *rows) {
      check(row.source, shapes.count(row.source) && row.axis < shapes[row.source].size());
      check(row.target, known.count(row.target));
      made.insert(row.target);
    }
  }
  for (const Value& value : after) {
    if (made.count(value.name) || transition.zeroes(value.role)) continue;
    check(value.name, shapes.count(value.name) && shapes[value.name] == value.shape);
  }
}

Tensors moved(const Transition& transition, const std::vector<Value>& layout, Tensors state,
              const RowSets& rows) {
  Tensors result;
  for (const Rows& row : transition.gather) {
    result[row.target] = gathered(state.at(row.source), row, chosen(rows, row.indices));
  }
  for (const Value& value : layout) {
    const bool target = std::any_of(transition.scatter.begin(), transition.scatter.end(),
                                    [&](const Rows& row) { return row.target == value.name; });
    if (target || transition.zeroes(value.role)) {
      result.emplace(value.name, Tensor(value.dtype, value.shape));
    }
  }
  for (const Rows& row : transition.scatter) {
    scatter(state.at(row.source), result.at(row.target), row, chosen(rows, row.indices));
  }
  for (const Value& value : layout) {
    if (!result.count(value.name)) result.emplace(value.name, std::move(state.at(value.name)));
  }
  return result;
}

}  // namespace effine
