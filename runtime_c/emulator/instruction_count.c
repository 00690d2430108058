/* A QEMU plugin that counts the instructions of each inference: in all, and of each layer.
 *
 * Arguments (addresses in hexadecimal, repeated as needed)
 *   out=PATH       file that gets one line of decimal counts per inference: total, then layers in order
 *   begin=A end=A  entries of the functions that mark an inference
 *   layer=A        entry of the next layer's function
 *   skip=A-B       functions at A .. B - 1 are not counted
 *
 * Twin: compiler/mcucompile/targets/counting.py
 * Source: QEMU 7.2, include/qemu/qemu-plugin.h, API version 1 (also valid in later versions); the
 * declarations are written out because distributions do not ship the header.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef MCU_PLUGIN_API
#define MCU_PLUGIN_API 1
#endif
#define EXPORT __attribute__((visibility("default")))

typedef uint64_t plugin_id;
struct qemu_plugin_tb;
typedef void (*translate_callback)(plugin_id id, struct qemu_plugin_tb *block);
typedef void (*execute_callback)(unsigned int cpu, void *data);

extern void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id id, translate_callback callback);
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *block, execute_callback callback,
                                                 int register_access, void *data);
extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *block);
extern uint64_t qemu_plugin_tb_vaddr(const struct qemu_plugin_tb *block);

EXPORT int qemu_plugin_version = MCU_PLUGIN_API;
EXPORT int qemu_plugin_install(plugin_id id, const void *information, int count, char **arguments);

#define MOST_LAYERS 1024
#define MOST_SKIPPED 16
#define NO_REGISTER_ACCESS 0

enum { MARK_NONE = -1, MARK_BEGIN = -2, MARK_END = -3 }; /* or a layer's index */

struct block {
    uint64_t instructions; /* 0 in functions that are not counted */
    int mark;
};

static FILE *out;
static uint64_t begin_address;
static uint64_t end_address;
static uint64_t layer_addresses[MOST_LAYERS];
static int layer_count;
static uint64_t skipped[MOST_SKIPPED][2];
static int skipped_count;

static uint64_t total;
static uint64_t layer_instructions[MOST_LAYERS];
static int counting;
static int layer = -1;

static void report(void)
{
    fprintf(out, "%llu", (unsigned long long)total);
    for (int i = 0; i < layer_count; ++i) {
        fprintf(out, " %llu", (unsigned long long)layer_instructions[i]);
    }
    fprintf(out, "\n");
    fflush(out);
}

static void on_execute(unsigned int cpu, void *data)
{
    const struct block *block = data;
    (void)cpu;
    if (block->mark == MARK_BEGIN) {
        counting = 1;
        layer = -1;
        total = 0;
        memset(layer_instructions, 0, sizeof(layer_instructions));
    } else if (block->mark == MARK_END && counting) {
        counting = 0;
        report();
    } else if (block->mark >= 0) {
        layer = block->mark;
    }
    if (counting) {
        total += block->instructions;
        if (layer >= 0) {
            layer_instructions[layer] += block->instructions;
        }
    }
}

static void on_translate(plugin_id id, struct qemu_plugin_tb *translated)
{
    const uint64_t address = qemu_plugin_tb_vaddr(translated);
    struct block *block = malloc(sizeof(*block)); /* QEMU may keep using it as long as it runs */
    (void)id;
    if (block == NULL) {
        abort();
    }
    block->instructions = qemu_plugin_tb_n_insns(translated);
    for (int i = 0; i < skipped_count; ++i) {
        if (address >= skipped[i][0] && address < skipped[i][1]) {
            block->instructions = 0;
        }
    }
    block->mark = address == begin_address ? MARK_BEGIN : address == end_address ? MARK_END : MARK_NONE;
    for (int i = 0; i < layer_count; ++i) {
        if (address == layer_addresses[i]) {
            block->mark = i;
        }
    }
    qemu_plugin_register_vcpu_tb_exec_cb(translated, on_execute, NO_REGISTER_ACCESS, block);
}

int qemu_plugin_install(plugin_id id, const void *information, int count, char **arguments)
{
    (void)information;
    for (int i = 0; i < count; ++i) {
        char *value = strchr(arguments[i], '=');
        if (value == NULL) {
            return 1;
        }
        *value++ = '\0';
        char *rest = value;
        const uint64_t address = strtoull(value, &rest, 16);
        if (strcmp(arguments[i], "out") == 0) {
            out = fopen(value, "w");
        } else if (strcmp(arguments[i], "begin") == 0) {
            begin_address = address;
        } else if (strcmp(arguments[i], "end") == 0) {
            end_address = address;
        } else if (strcmp(arguments[i], "layer") == 0 && layer_count < MOST_LAYERS) {
            layer_addresses[layer_count++] = address;
        } else if (strcmp(arguments[i], "skip") == 0 && skipped_count < MOST_SKIPPED && *rest == '-') {
            skipped[skipped_count][0] = address;
            skipped[skipped_count++][1] = strtoull(rest + 1, NULL, 16);
        } else {
            return 1;
        }
    }
    if (out == NULL) {
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    return 0;
}
