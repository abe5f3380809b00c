// What the example of docs/runtimes.md uses of LiteRT's C API (Apache-2.0): declarations, so that the test can compile it
// where LiteRT's repository is not at hand. Written by hand from litert/c at the tag v2.2.0; the same at commit
// f67457790c9c2ab67347d6fe53270e8d3df20868 of 2026-08-21, after which 2.3.0 was released. The example was also compiled
// with the headers of that commit.
#pragma once

#include <cstddef>
#include <cstdint>

typedef class LiteRtEnvironmentT* LiteRtEnvironment;
typedef class LiteRtModelT* LiteRtModel;
typedef class LiteRtSignatureT* LiteRtSignature;
typedef class LiteRtTensorT* LiteRtTensor;
typedef struct LiteRtOptionsT* LiteRtOptions;
typedef class LiteRtCompiledModelT* LiteRtCompiledModel;
typedef class LiteRtTensorBufferT* LiteRtTensorBuffer;
typedef size_t LiteRtParamIndex;
typedef int LiteRtHwAcceleratorSet;
struct LiteRtEnvOption;

enum LiteRtStatus { kLiteRtStatusOk = 0, kLiteRtStatusErrorInvalidArgument = 1 };
enum LiteRtHwAccelerators { kLiteRtHwAcceleratorCpu = 1 };
enum LiteRtElementType { kLiteRtElementTypeFloat32 = 1 };
enum LiteRtTensorBufferType { kLiteRtTensorBufferTypeHostMemory = 1 };
enum LiteRtTensorBufferLockMode {
  kLiteRtTensorBufferLockModeRead = 0,
  kLiteRtTensorBufferLockModeWrite = 1,
};

struct LiteRtLayout {
  unsigned int rank : 7;
  unsigned int has_strides : 1;
  int32_t dimensions[8];
  uint32_t strides[8];
};
struct LiteRtRankedTensorType {
  LiteRtElementType element_type;
  LiteRtLayout layout;
};
static_assert(sizeof(LiteRtRankedTensorType) == 72);

extern "C" {
LiteRtStatus LiteRtCreateEnvironment(int, const LiteRtEnvOption*, LiteRtEnvironment*);
LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment, const char*, LiteRtModel*);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel, LiteRtParamIndex, LiteRtSignature*);
LiteRtStatus LiteRtGetSignatureInputTensor(LiteRtSignature, const char*, LiteRtTensor*);
LiteRtStatus LiteRtGetSignatureOutputTensor(LiteRtSignature, const char*, LiteRtTensor*);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType*);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions*);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, LiteRtHwAcceleratorSet);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions, LiteRtCompiledModel*);
LiteRtStatus LiteRtRunCompiledModel(
    LiteRtCompiledModel, LiteRtParamIndex, size_t, LiteRtTensorBuffer*, size_t, LiteRtTensorBuffer*);
LiteRtStatus LiteRtCreateManagedTensorBuffer(
    LiteRtEnvironment, LiteRtTensorBufferType, const LiteRtRankedTensorType*, size_t, LiteRtTensorBuffer*);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer, void**, LiteRtTensorBufferLockMode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer);
}
