//===- llamacpp.cpp - A MoE layer as a graph of ggml -----------*- C++ -*-===//
//
// Part of the MoE compiler, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
///
/// \file
/// The operations that llama.cpp makes of a MoE block, on ggml's CPU backend:
/// mul_mat_id for the experts, top-k by argsort, and a sum over the k rows of a
/// token. peers/llamacpp.py calls it. ggml names the fastest dimension first.
///
//===----------------------------------------------------------------------===//

#include "ggml-alloc.h"
#include "ggml-backend.h"
#include "ggml-cpu.h"
#include "ggml.h"
#include <array>
#include <cstdint>

namespace {

enum Body : int32_t { SwiGLU, GptOss, Relu2 };

enum Role {
  Gate,
  Up,
  Down,
  GateBias,
  UpBias,
  DownBias,
  Router,
  RouterBias,
  SelectionBias,
  NumRoles
};

struct Sizes {
  int64_t hidden, inner, experts, topK;
  int32_t body, sigmoid, renormalize, type;
  float scale;
};

constexpr size_t kNumNodes = 256;

/// A context for the descriptions of tensors; their data is elsewhere.
ggml_context *makeContext() {
  size_t bytes = kNumNodes * ggml_tensor_overhead() + ggml_graph_overhead();
  return ggml_init({bytes, nullptr, /*no_alloc=*/true});
}

struct Layer {
  Sizes sizes;
  ggml_context *context = nullptr;
  ggml_backend_t backend = nullptr;
  ggml_backend_buffer_t buffer = nullptr;
  std::array<ggml_tensor *, NumRoles> weights{};

  explicit Layer(const Sizes &sizes);
  ~Layer();
};

struct Graph {
  ggml_context *context = nullptr;
  ggml_cgraph *graph = nullptr;
  ggml_gallocr_t allocator = nullptr;
  ggml_tensor *x = nullptr, *y = nullptr;

  ~Graph();
};

/// Adds the operations of a layer to a graph.
class Builder {
public:
  Builder(const Layer &layer, Graph &graph, int64_t numTokens)
      : layer(layer), sizes(layer.sizes), context(graph.context), graph(graph),
        numTokens(numTokens) {}

  void build();

private:
  struct Routing {
    ggml_tensor *ids, *weights; // k×T, 1×k×T
  };
  Routing route();
  ggml_tensor *apply(Role matrix, Role bias, ggml_tensor *rows,
                     ggml_tensor *ids);
  ggml_tensor *activate(ggml_tensor *rows, ggml_tensor *ids);
  ggml_tensor *sumChoices(ggml_tensor *rows);

  const Layer &layer;
  const Sizes &sizes;
  ggml_context *context;
  Graph &graph;
  int64_t numTokens;
};

} // namespace

Layer::Layer(const Sizes &sizes) : sizes(sizes) {
  context = makeContext();
  backend = ggml_backend_cpu_init();
  auto type = static_cast<ggml_type>(sizes.type);
  int64_t h = sizes.hidden, i = sizes.inner, e = sizes.experts;
  weights[Router] = ggml_new_tensor_2d(context, GGML_TYPE_F32, h, e);
  weights[Up] = ggml_new_tensor_3d(context, type, h, i, e);
  weights[Down] = ggml_new_tensor_3d(context, type, i, h, e);
  if (sizes.body != Relu2)
    weights[Gate] = ggml_new_tensor_3d(context, type, h, i, e);
  if (sizes.body == GptOss) {
    weights[RouterBias] = ggml_new_tensor_1d(context, GGML_TYPE_F32, e);
    weights[GateBias] = ggml_new_tensor_2d(context, GGML_TYPE_F32, i, e);
    weights[UpBias] = ggml_new_tensor_2d(context, GGML_TYPE_F32, i, e);
    weights[DownBias] = ggml_new_tensor_2d(context, GGML_TYPE_F32, h, e);
  }
  if (sizes.sigmoid)
    weights[SelectionBias] = ggml_new_tensor_1d(context, GGML_TYPE_F32, e);
  buffer = ggml_backend_alloc_ctx_tensors(context, backend);
}

Layer::~Layer() {
  ggml_backend_buffer_free(buffer);
  ggml_backend_free(backend);
  ggml_free(context);
}

Graph::~Graph() {
  ggml_gallocr_free(allocator);
  ggml_free(context);
}

Builder::Routing Builder::route() {
  ggml_tensor *logits = ggml_mul_mat(context, layer.weights[Router], graph.x);
  if (layer.weights[RouterBias])
    logits = ggml_add(context, logits, layer.weights[RouterBias]);
  ggml_tensor *scores = sizes.sigmoid ? ggml_sigmoid(context, logits)
                                      : ggml_soft_max(context, logits);
  ggml_tensor *keys = scores;
  if (layer.weights[SelectionBias])
    keys = ggml_add(context, scores, layer.weights[SelectionBias]);
  ggml_tensor *ids =
      ggml_argsort_top_k(context, keys, static_cast<int>(sizes.topK));
  ggml_tensor *weights = ggml_get_rows(
      context, ggml_reshape_3d(context, scores, 1, sizes.experts, numTokens),
      ids);
  weights = ggml_reshape_2d(context, weights, sizes.topK, numTokens);
  if (sizes.renormalize)
    weights = ggml_div(context, weights, ggml_sum_rows(context, weights));
  if (sizes.scale != 1)
    weights = ggml_scale(context, weights, sizes.scale);
  return {ids, ggml_reshape_3d(context, weights, 1, sizes.topK, numTokens)};
}

/// The rows of each choice times its expert's matrix.
ggml_tensor *Builder::apply(Role matrix, Role bias, ggml_tensor *rows,
                            ggml_tensor *ids) {
  ggml_tensor *products =
      ggml_mul_mat_id(context, layer.weights[matrix], rows, ids);
  if (!layer.weights[bias])
    return products;
  return ggml_add_id(context, products, layer.weights[bias], ids);
}

ggml_tensor *Builder::activate(ggml_tensor *rows, ggml_tensor *ids) {
  ggml_tensor *up = apply(Up, UpBias, rows, ids);
  if (sizes.body == Relu2)
    return ggml_sqr(context, ggml_relu(context, up));
  ggml_tensor *gate = apply(Gate, GateBias, rows, ids);
  if (sizes.body == GptOss)
    return ggml_swiglu_oai(context, gate, up, /*alpha=*/1.702f, /*limit=*/7.0f);
  return ggml_swiglu_split(context, gate, up);
}

/// H×k×T → H×T.
ggml_tensor *Builder::sumChoices(ggml_tensor *rows) {
  auto choice = [&](int64_t at) {
    return ggml_view_2d(context, rows, sizes.hidden, numTokens, rows->nb[2],
                        at * rows->nb[1]);
  };
  ggml_tensor *sum = choice(0);
  for (int64_t at = 1; at < sizes.topK; ++at)
    sum = ggml_add(context, sum, choice(at));
  return sizes.topK == 1 ? ggml_cont(context, sum) : sum;
}

void Builder::build() {
  graph.x =
      ggml_new_tensor_2d(context, GGML_TYPE_F32, sizes.hidden, numTokens);
  ggml_set_input(graph.x);
  Routing routing = route();
  ggml_tensor *rows =
      ggml_reshape_3d(context, graph.x, sizes.hidden, 1, numTokens);
  ggml_tensor *inner = activate(rows, routing.ids);
  ggml_tensor *done = apply(Down, DownBias, inner, routing.ids);
  graph.y = sumChoices(ggml_mul(context, done, routing.weights));
  ggml_set_output(graph.y);
  graph.graph = ggml_new_graph(context);
  ggml_build_forward_expand(graph.graph, graph.y);
}

extern "C" {

/// Null when there is no memory.
void *moe_ggml_new_layer(const Sizes *sizes) {
  auto *layer = new Layer(*sizes);
  if (layer->buffer)
    return layer;
  delete layer;
  return nullptr;
}

void moe_ggml_free_layer(void *layer) { delete static_cast<Layer *>(layer); }

/// One expert's part of a tensor, or all of one that is not an expert's. Gives
/// 1, and does nothing, when that has another number of bytes.
int32_t moe_ggml_set_weights(void *layer, int32_t role, int64_t expert,
                             const void *data, size_t bytes) {
  ggml_tensor *tensor = static_cast<Layer *>(layer)->weights[role];
  if (!tensor)
    return 1;
  size_t part = ggml_nbytes(tensor);
  if (role < Router)
    part /= tensor->ne[role < GateBias ? 2 : 1];
  if (part != bytes)
    return 1;
  ggml_backend_tensor_set(tensor, data, expert * part, bytes);
  return 0;
}

void moe_ggml_set_threads(void *layer, int32_t count) {
  ggml_backend_cpu_set_n_threads(static_cast<Layer *>(layer)->backend, count);
}

/// Null when there is no memory.
void *moe_ggml_new_graph(void *layer, int64_t numTokens) {
  auto *graph = new Graph;
  graph->context = makeContext();
  Builder(*static_cast<Layer *>(layer), *graph, numTokens).build();
  graph->allocator = ggml_gallocr_new(ggml_backend_cpu_buffer_type());
  if (ggml_gallocr_alloc_graph(graph->allocator, graph->graph))
    return graph;
  delete graph;
  return nullptr;
}

void moe_ggml_free_graph(void *graph) { delete static_cast<Graph *>(graph); }

/// f32 T×H → f32 T×H; gives ggml's status.
int32_t moe_ggml_run_graph(void *layer, void *graph, const float *x, float *y) {
  auto *built = static_cast<Graph *>(graph);
  ggml_backend_tensor_set(built->x, x, 0, ggml_nbytes(built->x));
  ggml_status status = ggml_backend_graph_compute(
      static_cast<Layer *>(layer)->backend, built->graph);
  ggml_backend_tensor_get(built->y, y, 0, ggml_nbytes(built->y));
  return static_cast<int32_t>(status);
}

} // extern "C"
