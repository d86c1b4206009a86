//! Programs that make one system call, to ask from inside a container what the kernel would do. They are made
//! here byte by byte, because no program of an image makes these calls the way an attacker would.

/// Where the program's data is in its memory.
pub(crate) const DATA: u64 = BASE + CODE_END as u64;

const BASE: u64 = 0x40_0000;
/// Length of the headers of an ELF file with one segment.
const HEADERS: usize = 64 + 56;
/// Code is filled up to here.
const CODE_END: usize = 0x200;

/// An executable that makes a system call and exits with its error number, or 0.
pub(crate) fn program(number: u32, arguments: &[u64], data: &[u8]) -> Vec<u8> {
    let mut code = system_call(number, arguments);
    code.extend([0x48, 0x89, 0xc7]); // mov rdi, rax
    code.extend([0x48, 0xf7, 0xdf]); // neg rdi
    code.extend([0x48, 0x81, 0xff, 0xff, 0x0f, 0, 0]); // cmp rdi, 4095
    code.extend([0x76, 0x03]); // jbe: skip the next
    code.extend([0x48, 0x31, 0xff]); // xor rdi, rdi
    code.extend(EXIT);
    executable(&code, data)
}

/// An executable that makes a system call and writes its result, eight bytes, to its standard output.
pub(crate) fn program_that_prints(number: u32, arguments: &[u64]) -> Vec<u8> {
    let mut code = system_call(number, arguments);
    code.extend([0x48, 0xa3]); // mov [DATA], rax
    code.extend(DATA.to_le_bytes());
    code.extend(system_call(1, &[1, DATA, 8]));
    code.extend([0x31, 0xff]); // xor edi, edi
    code.extend(EXIT);
    executable(&code, &[0; 8])
}

/// An executable that makes a system call and exits with 1 if its result is this one, else with 0.
pub(crate) fn program_that_compares(number: u32, arguments: &[u64], result: i32) -> Vec<u8> {
    let mut code = system_call(number, arguments);
    code.extend([0x48, 0x3d]); // cmp rax, result
    code.extend(result.to_le_bytes());
    code.extend([0x0f, 0x94, 0xc0]); // sete al
    code.extend([0x0f, 0xb6, 0xf8]); // movzx edi, al
    code.extend(EXIT);
    executable(&code, b"")
}

/// `mov eax, 60; syscall`: exit.
const EXIT: [u8; 7] = [0xb8, 60, 0, 0, 0, 0x0f, 0x05];

fn system_call(number: u32, arguments: &[u64]) -> Vec<u8> {
    // mov to rdi, rsi, rdx, r10, r8, r9
    let registers: [[u8; 2]; 6] =
        [[0x48, 0xbf], [0x48, 0xbe], [0x48, 0xba], [0x49, 0xba], [0x49, 0xb8], [0x49, 0xb9]];
    let mut code = Vec::new();
    for (at, register) in registers.iter().enumerate() {
        code.extend(register);
        code.extend(arguments.get(at).unwrap_or(&0).to_le_bytes());
    }
    code.push(0xb8); // mov eax, number
    code.extend(number.to_le_bytes());
    code.extend([0x0f, 0x05]); // syscall
    code
}

/// An ELF file (`elf(5)`) of one segment that can be read, written and executed.
fn executable(code: &[u8], data: &[u8]) -> Vec<u8> {
    let size = (CODE_END + data.len()) as u64;
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let short = |file: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| file.extend(value.to_le_bytes()));
    };
    short(&mut file, &[2, 62, 1, 0]); // an executable for x86-64, version 1
    file.extend((BASE + HEADERS as u64).to_le_bytes()); // entry point
    file.extend(64u64.to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes()); // flags
    short(&mut file, &[64, 56, 1, 0, 0, 0]);
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]); // load; read, write, execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    assert_eq!(file.len(), HEADERS);
    file.extend(code);
    file.resize(CODE_END, 0);
    file.extend(data);
    file
}
