// The compiled AMX kernels on a CPU without AMX: their tile instructions trap, and the handler does
// what they say on TileUnit. So the registers, addresses and instructions that the compiler chose
// are tested, which the emulation in C++ cannot do.
#include "src/kernels/kernels.h"
#include "tests/kernels/kernel_tables.h"

#if defined(__x86_64__) && defined(__linux__)

#include <signal.h>
#include <ucontext.h>

#include <cstring>

#include "tests/kernels/tile_unit.h"

namespace turboquant::kernels {
namespace {

// Bytes of an instruction with a three-byte VEX prefix: map 0F 38, 128 bits, W 0.
struct Instruction {
  const uint8_t* bytes;

  bool IsOfTiles() const {
    return bytes[0] == 0xC4 && (bytes[1] & 0x1F) == 2 && (bytes[2] & 0x84) == 0 &&
           (opcode() == 0x49 || opcode() == 0x4B || opcode() == 0x5E);
  }
  int extension(int bit) const { return (bytes[1] >> bit & 1) == 0 ? 8 : 0; }  // 7 R, 6 X, 5 B
  int third() const { return ~(bytes[2] >> 3) & 15; }
  int prefix() const { return bytes[2] & 3; }  // none, 66, F3, F2
  int opcode() const { return bytes[3]; }
  int mode() const { return bytes[4] >> 6; }
  int reg() const { return (bytes[4] >> 3 & 7) | extension(7); }
  int rm() const { return (bytes[4] & 7) | extension(5); }
  bool IsOfMemory() const { return mode() != 3; }
};

constexpr int kRegisters[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                REG_R12, REG_R13, REG_R14, REG_R15};

// The memory operand: base + displacement, and the index that tile rows step by.
struct Operand {
  int64_t address = 0;
  int64_t stride = 0;
  size_t length = 0;  // of the instruction
};

Operand MemoryOperand(const Instruction& instruction, const greg_t* registers) {
  const auto value = [&](int r) { return registers[kRegisters[r]]; };
  Operand operand = {0, 0, 5};
  const int low = instruction.bytes[4] & 7;
  bool has_base = true;
  if (low == 4) {
    const int sib = instruction.bytes[operand.length++];
    const int index = (sib >> 3 & 7) | instruction.extension(6);
    if (index != 4) operand.stride = value(index) * (int64_t{1} << (sib >> 6));
    has_base = (sib & 7) != 5 || instruction.mode() != 0;
    if (has_base) operand.address = value((sib & 7) | instruction.extension(5));
  } else if (low == 5 && instruction.mode() == 0) {
    has_base = false;
  } else {
    operand.address = value(instruction.rm());
  }
  const uint8_t* displacement = instruction.bytes + operand.length;
  if (instruction.mode() == 1) {
    operand.length += 1;
    operand.address += static_cast<int8_t>(*displacement);
  } else if (instruction.mode() == 2 || !has_base) {
    int32_t far = 0;
    std::memcpy(&far, displacement, sizeof(far));
    operand.length += sizeof(far);
    operand.address += far;
  }
  if (low == 5 && instruction.mode() == 0)  // from the next instruction on
    operand.address += registers[REG_RIP] + static_cast<int64_t>(operand.length);
  return operand;
}

// Length of the instruction, or 0 if it is none of ours.
size_t ExecuteOnMemory(const Instruction& instruction, const greg_t* registers, TileUnit& unit) {
  const Operand operand = MemoryOperand(instruction, registers);
  void* memory = reinterpret_cast<void*>(operand.address);  // NOLINT(performance-no-int-to-ptr)
  const auto stride = static_cast<size_t>(operand.stride);
  const int kind = instruction.opcode() << 4 | instruction.prefix();
  if (kind == 0x490 && instruction.reg() == 0) {
    TileShapes shapes;
    std::memcpy(&shapes, memory, sizeof(shapes));
    unit.Configure(shapes);
  } else if (kind == 0x4B3) {
    unit.Load(instruction.reg(), memory, stride);
  } else if (kind == 0x4B2) {
    unit.Store(instruction.reg(), memory, stride);
  } else {
    return 0;
  }
  return operand.length;
}

size_t ExecuteOnTiles(const Instruction& instruction, TileUnit& unit) {
  const int kind = instruction.opcode() << 4 | instruction.prefix();
  if (kind == 0x490 && instruction.bytes[4] == 0xC0) {
    unit.Release();
  } else if (kind == 0x493 && (instruction.bytes[4] & 7) == 0) {
    unit.Zero(instruction.reg());
  } else if (instruction.opcode() == 0x5E) {
    // none: u u; 66: u s; F3: s u; F2: s s.
    unit.AddProduct(instruction.reg(), instruction.rm(), instruction.third(),
                    (instruction.prefix() & 2) != 0, (instruction.prefix() & 1) != 0);
  } else {
    return 0;
  }
  return 5;
}

void OnIllegalInstruction(int, siginfo_t*, void* context) {
  greg_t* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  // NOLINTNEXTLINE(performance-no-int-to-ptr)
  const Instruction instruction = {reinterpret_cast<const uint8_t*>(registers[REG_RIP])};
  size_t length = 0;
  if (instruction.IsOfTiles()) {
    TileUnit& unit = TileUnit::OfThisThread();
    length = instruction.IsOfMemory() ? ExecuteOnMemory(instruction, registers, unit)
                                      : ExecuteOnTiles(instruction, unit);
  }
  if (length == 0) {  // happens again, and then ends the program
    signal(SIGILL, SIG_DFL);
    return;
  }
  registers[REG_RIP] += static_cast<greg_t>(length);
}

bool TrapIllegalInstructions() {
  struct sigaction action = {};
  action.sa_sigaction = OnIllegalInstruction;
  action.sa_flags = SA_SIGINFO;
  return sigaction(SIGILL, &action, nullptr) == 0;
}

}  // namespace

const KernelTable* TrappedAmxKernels() {
  if (AmxKernels() != nullptr || BuiltAmxKernels() == nullptr) return nullptr;
  static const bool kTrapped = TrapIllegalInstructions();
  return kTrapped ? BuiltAmxKernels() : nullptr;
}

}  // namespace turboquant::kernels

#else

namespace turboquant::kernels {

const KernelTable* TrappedAmxKernels() { return nullptr; }

}  // namespace turboquant::kernels

#endif
