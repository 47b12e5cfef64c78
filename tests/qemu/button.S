/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A guest in one boot sector that watches its power button, and switches itself off when that is pressed. For machine
 * 'pc', whose power management is at port 0x600 behind SeaBIOS.
 */
.code16
.globl _start
_start:
  cli
  mov $0x602,%dx	/* let the button be noticed */
  mov $0x0100,%ax
  out %ax,%dx
1: mov $0x600,%dx
  in %dx,%ax
  test $0x0100,%ax
  jz 1b
  mov $0x604,%dx	/* off */
  mov $0x2000,%ax
  out %ax,%dx
2: hlt
  jmp 2b
.org 510
.word 0xaa55
