/* Score lines of text with a keraslm model file, without keraslm: the C API of onnxruntime, and Jansson for JSON.

       client MODEL [document] < TEXT         per line: log-probability in nats, number of tokens

   With `document`, the state is carried over lines. docs/reference/onnx-file.md describes the format. */
#define _POSIX_C_SOURCE 200809L /* getline */
#include <jansson.h>
#include <onnxruntime_c_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define CHECK(call) for (OrtStatus *status = (call); status != NULL;) fail(ort->GetErrorMessage(status))

enum { PIECE = 256 }; /* most tokens per call; a longer line is passed in pieces */
static const char *const WHITE[] = {"\t", "\n", "\v", "\f", "\r", "\xC2\x85", "\u00A0", "\u1680", "\u2000", "\u2001",
    "\u2002", "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200A", "\u2028", "\u2029",
    "\u202F", "\u205F", "\u3000"}; /* Unicode's White_Space, in UTF-8, without the space */
static const char *path = "client"; /* of the model file, for messages */
static const OrtApi *ort;
static OrtSession *session;
static OrtAllocator *allocator;
static OrtMemoryInfo *memory;
static OrtValue *zeros, *state[2]; /* h and c */

static _Noreturn void fail(const char *message) {
    fprintf(stderr, "%s: %s\n", path, message);
    exit(EXIT_FAILURE);
}

static json_t *read_metadata(void) { /* the metadata that are numbers or JSON */
    static const char *const keys[] = {"format_version", "unk_id", "eos_id", "num_layers", "hidden_size", "tokenizer"};
    json_t *found = json_object();
    OrtModelMetadata *all;
    CHECK(ort->SessionGetModelMetadata(session, &all));
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        char *text;
        CHECK(ort->ModelMetadataLookupCustomMetadataMap(all, allocator, keys[i], &text));
        if (text == NULL) fail("This is not a model file of keraslm. Make one with: keraslm export model.onnx");
        if (json_object_set_new(found, keys[i], json_loads(text, JSON_DECODE_ANY, NULL)) != 0)
            fail("The metadata are damaged, or a word contains U+0000. Export the run again.");
        allocator->Free(allocator, text);
    }
    ort->ReleaseModelMetadata(all);
    return found;
}

static double score(int64_t *ids, int64_t count) { /* log-probability of ids[1] to ids[count], which follow ids[0] */
    static const char *const inputs[] = {"input_ids", "targets", "h0", "c0"};
    static const char *const outputs[] = {"target_log_probs", "next_h0", "next_c0"};
    OrtValue *given[] = {NULL, NULL, state[0], state[1]}, *found[] = {NULL, NULL, NULL};
    void *logprobs;
    double nats = 0;
    for (int i = 0; i < 2; i++)
        CHECK(ort->CreateTensorWithDataAsOrtValue(memory, ids + i, (size_t)count * sizeof *ids, (int64_t[]){1, count},
                                                  2, ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, &given[i]));
    CHECK(ort->Run(session, NULL, inputs, (const OrtValue *const *)given, 4, outputs, 3, found));
    CHECK(ort->GetTensorMutableData(found[0], &logprobs));
    for (int64_t i = 0; i < count; i++) nats += ((float *)logprobs)[i];
    for (int i = 0; i < 4; i++) ort->ReleaseValue(given[i] == zeros ? NULL : given[i]);
    ort->ReleaseValue(found[0]);
    memcpy(state, found + 1, sizeof state);
    return nats;
}

int main(int argc, char **argv) {
    int document = argc == 3 && strcmp(argv[2], "document") == 0, first = 1;
    if (argc != 2 && !document) fail("Give a model file, and `document` to carry the state over lines.");
    path = argv[1];
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (ort == NULL) fail("The onnxruntime library is older than the header. Update it, or use an older header.");
    OrtEnv *env;
    CHECK(ort->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "client", &env));
    CHECK(ort->CreateSession(env, path, NULL, &session));
    CHECK(ort->GetAllocatorWithDefaultOptions(&allocator));
    CHECK(ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
    static json_t *metadata, *words;
    metadata = read_metadata();
    json_int_t version, unk, eos, layers, units;
    if (json_unpack(metadata, "{s:I, s:I, s:I, s:I, s:I}", "format_version", &version, "unk_id", &unk, "eos_id", &eos,
                    "num_layers", &layers, "hidden_size", &units) != 0 || version < 3 || version > 5)
        fail("The file has a format version that this program does not read: not 3, 4 or 5.");
    const char *cut, *model;
    if (json_unpack(metadata, "{s:{s:n, s:[!], s:{s:[{s:s!}!]}, s:{s:s, s:o}}}", "tokenizer", "normalizer",
                    "added_tokens", "pre_tokenizer", "pretokenizers", "type", &cut, "model", "type", &model,
                    "vocab", &words) != 0 || strcmp(cut, "WhitespaceSplit") != 0 || strcmp(model, "WordLevel") != 0)
        fail("The tokenizer does more than look up words between white space. Use: keraslm score");
    void *numbers;
    CHECK(ort->CreateTensorAsOrtValue(allocator, (int64_t[]){layers, 1, units}, 3, ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                                      &zeros));
    CHECK(ort->GetTensorMutableData(zeros, &numbers));
    memset(numbers, 0, (size_t)(layers * units) * sizeof(float));
    state[0] = state[1] = zeros;
    int64_t ids[PIECE + 1] = {eos}, used = 0; /* a text begins as if a line had just ended */
    static char *line;
    size_t room = 0;
    for (ssize_t length; (length = getline(&line, &room, stdin)) > 0; first = 0) {
        double nats = 0;
        int tokens = 0;
        if (strlen(line) != (size_t)length) fail("The text contains U+0000, which this program does not read.");
        if (first && strncmp(line, "\xEF\xBB\xBF", 3) == 0) memset(line, ' ', 3); /* a byte order mark */
        for (size_t i = 0; i < sizeof WHITE / sizeof *WHITE; i++)
            for (char *p = line; (p = strstr(p, WHITE[i])) != NULL;) memset(p, ' ', strlen(WHITE[i]));
        for (char *word = strtok(line, " ");; word = strtok(NULL, " ")) { /* NULL is the end of the line */
            const json_t *id = word == NULL ? NULL : json_object_get(words, word);
            ids[++used] = word == NULL ? eos : id == NULL ? unk : json_integer_value(id);
            tokens++;
            if (used == PIECE || ids[used] == eos) {
                nats += score(ids, used);
                if (ids[used] == eos && !document)
                    for (int i = 0; i < 2; i++) ort->ReleaseValue(state[i]), state[i] = zeros;
                ids[0] = ids[used], used = 0;
            }
            if (word == NULL) break;
        }
        printf("%.6f\t%d\n", nats, tokens);
    }
    if (ferror(stdin) || fflush(stdout) != 0) fail("The text cannot be read, or the scores cannot be written.");
}
