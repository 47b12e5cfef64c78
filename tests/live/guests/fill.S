/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that fills its memory from 1 MiB up to TOP with what does not compress, so that a save or a migration takes
 * its time.
 *
 *   cc -E -P -DTOP=0x3f000000 [-DLOOP] fill.S | as --32 -o f.o
 *   ld -m elf_i386 -Ttext 0x7c00 --oformat binary f.o -o fill1g.img && truncate -s 1M fill1g.img
 *
 * LOOP: goes on dirtying for ever (a live migration then does not converge by itself).
 */
.code16
.globl _start
_start:
	cli
	xor %ax,%ax
	mov %ax,%ds
	lgdtl gdtr
	mov %cr0,%eax
	or $1,%al
	mov %eax,%cr0
	ljmp $8,$pm
.code32
pm: mov $16,%ax
	mov %ax,%ds
	mov %ax,%es
	mov $0x12345678,%eax
again:
	mov $0x100000,%edi
1: imul $1664525,%eax,%eax
	add $1013904223,%eax
	mov %eax,(%edi)
	mov %eax,64(%edi)
	mov %eax,1024(%edi)
	mov %eax,2048(%edi)
	add $4096,%edi
	cmp $TOP,%edi
	jb 1b
#ifdef LOOP
	jmp again
#endif
2: hlt
	jmp 2b
.align 8
gdt: .quad 0, 0x00cf9a000000ffff, 0x00cf92000000ffff
gdtr: .word 23
 .long gdt
.org 510
.word 0xaa55
