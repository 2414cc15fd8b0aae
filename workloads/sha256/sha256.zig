//! Prints the SHA-256 of each file named on the command line, in the form of sha256sum: "<hex>  <name>". The name is
//! the file's own, without directories: what is printed does not depend on where a rung puts the files. Files are streamed in pieces: memory does not grow with them. Exit codes: 0, 1 (a file failed), 2 (no file named).
const std = @import("std");
const Sha256 = std.crypto.hash.sha2.Sha256;

/// One read: large enough that host calls cost little beside the hashing, small beside an edge host's memory.
const piece = 64 * 1024;

pub fn main(init: std.process.Init) !u8 {
    const args = try init.minimal.args.toSlice(init.arena.allocator());

    var out_buffer: [1024]u8 = undefined;
    var out = std.Io.File.stdout().writerStreaming(init.io, &out_buffer);
    var err_buffer: [256]u8 = undefined;
    var err = std.Io.File.stderr().writerStreaming(init.io, &err_buffer);

    if (args.len < 2) {
        try err.interface.writeAll("usage: sha256 FILE...\n");
        try err.interface.flush();
        return 2;
    }
    var code: u8 = 0;
    for (args[1..]) |name| {
        const digest = hashFile(init.io, name) catch |reason| {
            try err.interface.print("sha256: {s}: {t}\n", .{ name, reason });
            try err.interface.flush();
            code = 1;
            continue;
        };
        try out.interface.print("{x}  {s}\n", .{ &digest, std.fs.path.basename(name) });
    }
    try out.interface.flush();
    return code;
}

fn hashFile(io: std.Io, name: []const u8) ![Sha256.digest_length]u8 {
    const file = try std.Io.Dir.cwd().openFile(io, name, .{});
    defer file.close(io);
    var hash = Sha256.init(.{});
    var buffer: [piece]u8 = undefined;
    while (true) {
        const got = file.readStreaming(io, &.{&buffer}) catch |reason| switch (reason) {
            error.EndOfStream => break,
            else => return reason,
        };
        hash.update(buffer[0..got]);
    }
    return hash.finalResult();
}
