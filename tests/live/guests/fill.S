/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest that fills its memory from 1 MiB up to TOP with what does not compress, so that a save or a migration takes
 * its time.
 *
 *   cc -E -P -DTOP=0x3f000000 [-DLOOP] fill.S | as --32 -o f.o
 *   ld -m elf_i386 -Ttext 0x7c00 --oformat binary f.o -o fill1g.img && truncate -s 1M fill1g.img
 *
 * LOOP: goes on dirtying for ever (a live migration then does not converge by itself).
 * ROM: in the place of the BIOS (-Ttext 0xf0000, 64 KiB), without which it is there at once.
 */
.code16
.globl _start
_start:
	cli
#ifdef ROM
	lgdtl %cs:(gdtr - _start)
#else
	xor %ax,%ax
	mov %ax,%ds
	lgdtl gdtr
#endif
	mov %cr0,%eax
	or $1,%al
	mov %eax,%cr0
	ljmpl $8,$pm
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
/* as if they had been used already: the processor could not mark that in a ROM */
gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdtr: .word 23
 .long gdt
#ifdef ROM
.org 0xfff0
.code16
	ljmp $0xf000,$0
.org 0x10000
#else
.org 510
.word 0xaa55
#endif
